"""Keeps the tests away from the user's cache, from the network and from accelerators."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

_HF_HOME = Path(tempfile.mkdtemp(prefix="zoo-tests-"))
atexit.register(shutil.rmtree, _HF_HOME, ignore_errors=True)

# huggingface_hub reads these once, when it is imported.
for _name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
    del os.environ[_name]
os.environ |= {
    "HF_HOME": str(_HF_HOME),
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
# The client's first call asks the public hub for this list, unless a copy of today is there.
(_HF_HOME / ".agent_harnesses.json").write_text('{"standardEnvVars": [], "harnesses": {}}')

sys.path.insert(0, str(Path(__file__).parent))
pytest_plugins = ["hub_fixtures", "cli_fixtures"]

_online = False


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share what a module makes for them run on one worker, which makes it once."""
    for item in items:
        fixtures = item._fixtureinfo.name2fixturedefs
        shared = [name for name, known in fixtures.items() if known[-1].scope == "module"]
        if shared:
            made = getattr(item, "callspec", None)
            which = [made.indices[name] for name in shared if made and name in made.indices]
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem} {which}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _online
    _online = item.get_closest_marker("network") is not None
    try:
        return (yield)
    finally:
        _online = False


def _refuse_network(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event == "socket.connect" and isinstance(args[1], tuple):
        host = args[1][0]
    else:
        return
    if not _online and host not in (None, "localhost", "127.0.0.1", "::1"):
        # No OSError: a client would take that for a network that is down, and try again.
        raise RuntimeError(f"A test reached for {host!r}. Only those marked `network` may.")


sys.addaudithook(_refuse_network)
