"""A proxy before a hub, for what happens between a client and a hub that does nothing wrong."""

import http.client
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        connection = http.client.HTTPConnection(self.server.hub.url.removeprefix("http://"))
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        answer = self.server.change(self.command, self.path, response.read())
        status, headers = response.status, response.getheaders()
        connection.close()
        self.close_connection = answer is None
        if answer is None:
            return
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = _forward  # noqa: N815

    def log_message(self, *arguments):
        pass


@contextmanager
def proxy(hub, change=lambda method, path, body: body):
    """Forward all requests to `hub`; `change` gives the body to answer, or None to hang up.

    The proxy has a `url`, and lists its `requests` as (method, path, headers).
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub, server.change, server.requests = hub, change, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
