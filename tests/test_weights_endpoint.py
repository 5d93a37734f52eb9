"""Which hub is asked, which token it gets, and where its files are kept."""

import hashlib
import json
import traceback
from pathlib import Path

import huggingface_hub.constants
import pytest
from hub_fixtures import CONFIG, MEMBER, REPO, STRANGER
from weights_processes import run_python
from weights_server import web_server

from zoo.errors import AccessError, HandleError
from zoo.weights.endpoint import PUBLIC, Endpoint
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository

COMMIT = "c" * 40


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home of its own, with no login."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "home"


# Folders


def test_the_public_hub_has_the_standard_cache(home, monkeypatch):
    endpoint = Endpoint.of(Source())
    assert (endpoint.url, endpoint.cache) == (PUBLIC, home / "hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/data/$USER_NAME/hub")
    monkeypatch.setenv("USER_NAME", "ada")
    assert Endpoint.of(Source()).cache == Path("/data/ada/hub")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert Endpoint.of(Source()).cache == Path("/home/ada/.cache/huggingface/hub")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert Endpoint.of(Source()).cache == Path("/xdg/huggingface/hub")
    assert Endpoint.of(Source(cache_dir="~/c")).cache == Path("/home/ada/c")


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://hub.acme.org", "hub.acme.org_443"),
        ("https://hub.acme.org/", "hub.acme.org_443"),
        ("http://hub.acme.org", "hub.acme.org_80"),
        ("http://127.0.0.1:8000", "127.0.0.1_8000"),
        ("https://acme.org/hf/mirror", "acme.org_443_hf_mirror"),
    ],
)
def test_every_other_endpoint_has_a_folder_of_its_own(home, monkeypatch, url, folder):
    assert Endpoint.of(Source(endpoint=url)).cache == home / "zoo" / "endpoints" / folder
    given = Endpoint.of(Source(endpoint=url, cache_dir="/data"))
    assert given.cache == Path("/data/zoo/endpoints") / folder
    monkeypatch.setenv("HF_ENDPOINT", url)
    assert Endpoint.of(Source()).cache == home / "zoo" / "endpoints" / folder


def test_two_endpoints_do_not_share_a_file(hub, digits, tmp_path):
    def answer(method, path, headers):
        return fake_hub(b"other")(method, path, headers)

    first = open_repository(REPO, Source(endpoint=hub.url)).file("config.json")
    with web_server(answer) as other:
        second = open_repository(REPO, Source(endpoint=other.url)).file("config.json")
    assert (first.read_bytes(), second.read_bytes()) == (CONFIG, b"other")


@pytest.mark.parametrize("url", ["hub.acme.org", "ftp://hub", "https://", "file:///x"])
def test_no_address(url):
    with pytest.raises(HandleError, match="is no address"):
        Endpoint.of(Source(endpoint=url))


# Environment


def test_the_endpoint_of_the_moment(hub, digits, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    assert open_repository(REPO, Source()).file("config.json").read_bytes() == CONFIG
    monkeypatch.setenv("HF_ENDPOINT", "")
    assert Endpoint.of(Source()).url == PUBLIC


# Tokens


def sent(hub):
    """The tokens that reached the hub since the last time."""
    tokens = {request.headers.get("authorization") for request in hub.requests}
    hub.requests.clear()
    return tokens


def load(**source):
    open_repository(REPO, Source(**source)).file("config.json")


def test_the_ambient_token_goes_to_the_ambient_endpoint_alone(hub, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    load(endpoint=hub.url, cache_dir=tmp_path / "1")  # the token is the public hub's
    assert sent(hub) == {None}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    load(cache_dir=tmp_path / "2")
    assert sent(hub) == {f"Bearer {MEMBER}"}
    load(endpoint=hub.url, cache_dir=tmp_path / "3")
    assert sent(hub) == {f"Bearer {MEMBER}"}
    load(token=False, cache_dir=tmp_path / "4")
    assert sent(hub) == {None}
    load(token=STRANGER, cache_dir=tmp_path / "5")
    assert sent(hub) == {f"Bearer {STRANGER}"}
    monkeypatch.setenv("HF_ENDPOINT", "https://elsewhere.example")
    load(endpoint=hub.url, cache_dir=tmp_path / "6")
    assert sent(hub) == {None}


def test_an_explicit_token_goes_to_the_explicit_endpoint(hub, digits):
    load(endpoint=hub.url, token=MEMBER)
    assert sent(hub) == {f"Bearer {MEMBER}"}


def test_the_stored_login_goes_to_the_ambient_endpoint_alone(hub, digits, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(MEMBER)
    load(endpoint=hub.url, cache_dir=tmp_path / "1")
    assert sent(hub) == {None}
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    load(cache_dir=tmp_path / "2")
    assert sent(hub) == {f"Bearer {MEMBER}"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    load(cache_dir=tmp_path / "3")
    assert sent(hub) == {None}
    load(cache_dir=tmp_path / "4", token=True)
    assert sent(hub) == {f"Bearer {MEMBER}"}


def test_a_token_that_is_asked_for_and_not_there(hub, digits, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    with pytest.raises(AccessError, match=f"none for {hub.url}"):
        load(endpoint=hub.url, token=True)
    assert hub.requests == []


def fake_hub(content, location=None, extra=()):
    """The answers of a hub with one file, which may be elsewhere: at `location`."""
    etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    sibling = {"rfilename": "config.json", "size": len(content), "blobId": etag}
    info = json.dumps({"id": REPO, "sha": COMMIT, "siblings": [sibling]}).encode()
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, **dict(extra)}

    def answer(method, path, request):
        if path.startswith("/api/"):
            return 200, {"Content-Type": "application/json"}, info
        if location and "/resolve/" in path:
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            return 302, {**headers, **linked, "Location": location}, b""
        return 200, headers, content

    return answer


def assert_no_token(server):
    names = {name.lower() for _, _, headers in server.requests for name in headers}
    assert "host" in names
    assert "authorization" not in names


def test_a_token_does_not_follow_to_a_storage_host():
    with (
        web_server(fake_hub(b"{}")) as storage,
        web_server(fake_hub(b"{}", f"{storage.url}/blob")) as server,
    ):
        load(endpoint=server.url, token="secret")
        assert {request[2].get("authorization") for request in server.requests} == {"Bearer secret"}
        assert ("GET", "/blob") in [request[:2] for request in storage.requests]
        assert_no_token(storage)


def test_a_token_does_not_follow_to_the_public_hub(monkeypatch):
    """The client counts some hosts as hubs, and hands them the token of any other."""
    from huggingface_hub.utils import _http

    with (
        web_server(fake_hub(b"{}")) as public,
        web_server(fake_hub(b"{}", f"{public.url}/{REPO}/blob")) as server,
    ):
        if not hasattr(_http, "_HUB_ORIGINS"):
            pytest.skip("This client looks at host names alone, as the test above has them.")
        known = {*_http._HUB_ORIGINS, _http._url_origin(public.url)}
        monkeypatch.setattr(_http, "_HUB_ORIGINS", frozenset(known))
        load(endpoint=server.url, token="secret")
        assert {method for method, _, _ in public.requests} == {"HEAD", "GET"}
        assert_no_token(public)


def test_tokens_are_not_printed():
    assert "secret" not in repr(Endpoint.of(Source(token="secret")))


# What the client would do by itself

WITH_CLIENT_DEFAULTS = """
from huggingface_hub import constants
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository
assert not constants.HF_HUB_DISABLE_XET and not constants.HF_HUB_DISABLE_TELEMETRY
source = Source(endpoint=sys.argv[1], cache_dir=sys.argv[2])
print(open_repository("acme/digits", source).file("config.json").read_bytes())
assert not constants.HF_HUB_DISABLE_XET and not constants.HF_HUB_DISABLE_TELEMETRY
"""


def test_xet_and_telemetry_are_off_towards_other_hubs(tmp_path):
    """A server that names a Xet address, of any kind, is not followed there."""
    with web_server(lambda *request: (404, {}, b"")) as elsewhere:
        xet = {
            "X-Xet-Hash": "a" * 64,
            "X-Xet-Refresh-Route": f"{elsewhere.url}/token",
            "Link": f'<{elsewhere.url}/auth>; rel="xet-auth"',
        }
        with web_server(fake_hub(b"{}", extra=xet.items())) as server:
            done = run_python(
                WITH_CLIENT_DEFAULTS,
                server.url,
                tmp_path / "cache",
                HF_ENDPOINT=elsewhere.url,  # whom the client asks for its list of agents
                HF_HOME=str(tmp_path / "empty"),
                HF_HUB_DISABLE_XET="0",
                HF_HUB_DISABLE_TELEMETRY="0",
            )
        assert (done.error, done.output) == ("", "b'{}'\n"), done.message
        assert elsewhere.requests == []


IMPORTED_OFFLINE = """
import huggingface_hub.constants
assert huggingface_hub.constants.HF_HUB_OFFLINE
del os.environ["HF_HUB_OFFLINE"]
from zoo.weights.handle import Source
from zoo.weights.hub import open_repository
source = Source(endpoint=sys.argv[1], cache_dir=sys.argv[2])
print(open_repository("acme/digits", source).file("config.json").read_bytes())
"""


def test_offline_mode_can_end_after_the_client_was_imported(hub, digits, tmp_path):
    done = run_python(IMPORTED_OFFLINE, hub.url, tmp_path, HF_HUB_OFFLINE="1")
    assert (done.error, done.output) == ("", f"{CONFIG}\n"), done.message


LIGHT = """
import zoo.weights.handle, zoo.weights.files, zoo.weights.folder, zoo.weights.hub
import zoo.weights.https, zoo.weights.cache, zoo.weights.lockfile
heavy = {"tensorflow", "keras", "huggingface_hub", "requests", "tqdm", "safetensors", "PIL"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_is_light():
    assert run_python(LIGHT).output == "[]\n"


# Tokens that no request can carry

BAD = ["hf_secret\n", "hf_sécret", "\ud800hf_secret", "hf_se\0cret", "hf secret", b"hf_secret", 7]


@pytest.mark.parametrize("token", BAD)
def test_a_token_that_no_request_can_carry_is_not_shown(hub, digits, token):
    """Nor is it in what the error came from, which a traceback prints."""
    with pytest.raises(AccessError) as raised:
        load(endpoint=hub.url, token=token)
    shown = "".join(traceback.format_exception(raised.value, limit=0))
    assert "token" in shown
    assert not any(text in shown for text in ("hf_s", "cret", "\n\n"))
    assert hub.requests == []


@pytest.mark.parametrize("token", ["hf_sécret", "hf secret"])
@pytest.mark.parametrize("where", ["HF_TOKEN", "login"])
def test_an_ambient_token_that_no_request_can_carry(
    hub, digits, tmp_path, monkeypatch, token, where
):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    if where == "login":
        (tmp_path / "token").write_text(token, "utf-8")
    else:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(AccessError, match="HF_TOKEN, or of the stored login") as raised:
        load()
    assert "cret" not in "".join(traceback.format_exception(raised.value, limit=0))


@pytest.mark.parametrize("endpoint", ["https://[", "https://a:99999", "https://me:hf_secret@host"])
def test_endpoints_that_are_none(endpoint):
    with pytest.raises(HandleError) as raised:
        load(endpoint=endpoint)
    assert "secret" not in str(raised.value)
