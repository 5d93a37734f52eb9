"""The faults that the hub injects, as raw requests and the real client meet them."""

import hashlib
import http.client
import time

import pytest
from hub_fixtures import CONFIG, REPO, WEIGHTS, ask, download

from zoo.hub import Fault


def test_status_fault_for_as_many_requests_as_asked(hub, digits):
    address = f"/{REPO}/resolve/{digits}/config.json"
    for status in [401, 403, 404, 429, 500, 503]:
        hub.faults.add(Fault("*/config.json", status=status, retry_after=7, times=2))
        assert ask(hub, f"/api/models/{REPO}")[0] == 200
        answers = [ask(hub, address) for _ in range(3)]
        assert [answer[0] for answer in answers] == [status, status, 200]
        assert [answer[1]["Retry-After"] for answer in answers] == ["7", "7", None]
        assert answers[0][1]["X-Error-Code"] is None


def test_faults_come_in_turn_and_can_be_cleared(hub, digits):
    hub.faults.add(Fault("*", status=503, times=1), Fault("*", status=429, times=1))
    hub.faults.add(Fault("*", status=500, method="HEAD"))
    statuses = [ask(hub, f"/api/models/{REPO}")[0] for _ in range(3)]
    assert statuses == [503, 429, 200]
    assert ask(hub, f"/api/models/{REPO}", "HEAD")[0] == 500
    hub.faults.clear()
    assert ask(hub, f"/api/models/{REPO}", "HEAD")[0] == 200


def test_client_waits_and_repeats_after_429(hub, digits, tmp_path):
    hub.faults.add(Fault("*/resolve/*", status=429, retry_after=0, times=1))
    assert download(hub, tmp_path, "config.json").read_bytes() == CONFIG


def test_flipped_byte_keeps_the_size_and_is_stored_by_the_client(hub, digits, tmp_path):
    hub.faults.add(Fault("*.safetensors", flip_byte=70, times=1))
    file = download(hub, tmp_path, "model.safetensors")
    received = file.read_bytes()
    assert [i for i, byte in enumerate(received) if byte != WEIGHTS[i]] == [70]
    assert received[70] == WEIGHTS[70] ^ 0xFF
    assert file.resolve().name == hashlib.sha256(WEIGHTS).hexdigest()  # the client checks no hash


@pytest.mark.parametrize(
    ("fault", "received"),
    [
        ({"cut_after": 0}, 0),
        ({"cut_after": 65_536}, 65_536),
        ({"cut_after": 100_000}, 100_000),
        ({"content_length": 250_000}, 200_000),
    ],
)
def test_broken_off_body(hub, fault, received):
    commit = hub.storage.commit(REPO, {"a.bin": bytes(200_000)})
    hub.faults.add(Fault("*/a.bin", times=1, **fault))
    address = f"/{REPO}/resolve/{commit}/a.bin"
    assert ask(hub, address, "HEAD")[1]["Content-Length"] == "200000"
    with pytest.raises(http.client.IncompleteRead) as broken:
        ask(hub, address)
    assert len(broken.value.partial) == received
    assert ask(hub, address)[2] == bytes(200_000)


def test_redirect_uses_up_no_fault_of_bodies(hub, digits):
    hub.faults.add(Fault("*", cut_after=0, times=1))
    status, headers, _ = ask(hub, f"/{REPO}/resolve/main/config.json")
    assert status == 307
    with pytest.raises(http.client.IncompleteRead):
        ask(hub, headers["Location"])


@pytest.mark.parametrize("length", [10, 65_536])
def test_body_truncated_to_a_wrong_length(hub, tmp_path, length):
    hub.storage.commit(REPO, {"a.bin": bytes(200_000)})
    hub.faults.add(Fault("*/a.bin", content_length=length, times=1))
    with pytest.raises(OSError, match=f"should be of size 200000 but has size {length}"):
        download(hub, tmp_path, "a.bin")
    assert download(hub, tmp_path, "a.bin").read_bytes() == bytes(200_000)


def test_stall_delays_the_answer(hub, digits):
    hub.faults.add(Fault("*", stall=0.3, times=1))
    start = time.monotonic()
    assert ask(hub, f"/api/models/{REPO}")[0] == 200
    assert 0.3 <= time.monotonic() - start < 3


@pytest.mark.parametrize("kinds", [{}, {"status": 500, "stall": 1}])
def test_fault_does_one_thing(kinds):
    with pytest.raises(ValueError, match="exactly one thing"):
        Fault("*", **kinds)
