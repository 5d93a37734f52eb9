"""A web server of a few lines, for what a hub that keeps to the protocol never does."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.requests.append((self.command, self.path, dict(self.headers)))
        status, headers, body = server.answer(self.command, self.path, self.headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, address):
        """A client that goes away is no error here."""


@contextmanager
def web_server(answer):
    """Serve what `answer(method, path, headers)` gives: status, headers, body.

    The server has a `url`, and lists its `requests` as (method, path, headers).
    """
    server = Server(("127.0.0.1", 0), Answer)
    server.answer, server.requests = answer, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
