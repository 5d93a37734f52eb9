"""The command line as a whole: help, wrong usage, errors, exit codes, signals, start-up."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import click
import pytest
from cli_fixtures import FILES, REPO, start

import zoo
from zoo.cli import main
from zoo.hub import Fault

VERBS = [
    "cache", "embed", "evaluate", "explain", "finetune", "info", "list", "lock", "predict", "pull",
    "save", "verify",
]  # fmt: skip
NESTED = ["cache ls", "cache rm", "cache prune"]


def commands(group=main, path=()):
    """Every verb, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def test_every_module_of_verbs_is_a_verb_of_its_name():
    found = dict(commands())
    assert {words for words in found if len(words) == 1} >= {(verb,) for verb in VERBS}
    for words, command in found.items():
        assert command.name == words[-1]


@pytest.mark.parametrize("words", [" ".join(words) for words, _ in commands()])
def test_help(cli, words):
    out = cli(*words.split(), "--help").stdout
    assert out.startswith(f"Usage: zoo {words} [OPTIONS]")
    assert "Examples:\n    zoo " in out
    assert max(map(len, out.splitlines())) <= 80
    if words in ("cache", "hub"):
        return  # verbs below them
    assert "--debug" in out
    if words != "hub serve":  # it prints no data
        assert "--json" in out
        assert "Print JSON: an " in out


def test_help_lists_whole_sentences(cli):
    out = cli("--help").stdout
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", out.partition("Commands:")[2], re.MULTILINE))
    assert set(listed) >= set(VERBS)
    assert all(line.endswith(".") and not line.endswith("..") for line in listed.values())
    assert cli("-h").stdout == out


def test_version(cli):
    assert cli("--version").stdout == f"zoo, version {zoo.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lst"], "There is no verb 'lst'. Did you mean 'list'?"),
        (
            ["xyzzy"],
            "There is no verb 'xyzzy'. There are cache, embed, evaluate, explain, finetune,",
        ),
        (["cache", "prun"], "There is no verb 'prun'. Did you mean 'prune'?"),
        (["list", "--licence", "mit"], "--license"),
        (["predict", "resnet50", "a.jpg", "--tpo", "3"], "--top"),
        (["predict", "resnet50"], "Missing argument 'INPUT...'"),
        (["predict", "resnet50", "a.jpg", "--top", "0"], "0 is not in the range x>=1"),
        (["list", "--max-params", "many"], "'many' is no number such as 30M, 1.5B, 500k or 30e6."),
        (["list", "--architectures", "--task", "x"], "--architectures goes with PATTERN alone"),
        (["cache", "prune", "--older-than", "1y"], "'1y' is no span of time such as 12h, 30d"),
        (["cache", "prune", "--older-than", "999999w"], "'999999w' is no span of time"),
        (["pull", "resnet50", "--lockfile", "."], "File '.' is a directory"),
        (["verify", "--cache-dir", __file__], "is a file"),
        (["save", "resnet50", __file__], "is a file"),
        (["embed", "resnet50", "a.jpg", "--out", "nowhere/v.npy"], "is no file in a folder that"),
    ],
)
def test_wrong_usage(cli, arguments, message):
    result = cli(*arguments, code=2)
    assert result.stdout == ""
    assert message in result.stderr
    assert "Usage: zoo" in result.stderr


def test_error_is_a_paragraph(cli):
    result = cli("info", "resnet5O", code=1)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: There is no model 'resnet5O'. Did you mean 'resnet50'")


@pytest.mark.parametrize("how", ["before", "behind", "environment"])
def test_debug_shows_the_traceback(cli, how):
    words = ["info", "resnet5O"]
    words = {"before": ["--debug", *words], "behind": [*words, "--debug"]}.get(how, words)
    result = cli(*words, code=1, env={"ZOO_DEBUG": "1"} if how == "environment" else {})
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert "\nError: There is no model 'resnet5O'." in result.stderr


@pytest.mark.filterwarnings("default")
def test_warning_is_a_line(cli):
    result = cli("info", "gluon_resnet50_v1b", "--json")
    assert json.loads(result.stdout)["name"] == "resnet50.gluon_in1k"
    assert result.stderr == (
        "Warning: The name 'gluon_resnet50_v1b' is deprecated; this is 'resnet50.gluon_in1k', use "
        "that name.\n"
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["info", "resnet50"], ["predict", "--help"]], ids=" ".join
)
def test_start_is_light(arguments):
    code = (
        "import sys\n"
        "from zoo.cli import main\n"
        f"try: main({arguments})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'PIL', 'requests', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stderr == "[]\n"


@pytest.mark.parametrize("arguments", [["list", "--json"], ["list"], ["info", "resnet50"]])
def test_broken_pipe_is_silent(arguments):
    process = start(*arguments)
    process.stdout.close()  # before it has written anything
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_first_line_of_a_pipe():
    command = f"set -o pipefail; {sys.executable} -m zoo list --json | head -n 1"
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("[\n", "")
    assert run.returncode in (0, 141)  # as the pipe was full, or not


def on_terminal(width, *arguments):
    """The lines that a user sees on a terminal of that width, without styles."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "zoo", *arguments]
    process = subprocess.Popen(command, stdout=follower, env={**environment, "TERM": "xterm"})
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # how Linux tells the end
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(60) == 0
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).replace("\r\n", "\n").splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width):
    lines = on_terminal(width, "list", "resnetv2*")
    assert max(map(len, lines)) <= width
    # whatever the width, names are whole: a long one goes on in the next line
    parts = [line.split()[0] for line in lines[1:]]
    assert "".join(parts) == "".join(zoo.list_models("resnetv2*"))
    assert (len(parts) == len(zoo.list_models("resnetv2*"))) == (width == 120)
    facts = on_terminal(width, "info", "resnet50")
    assert max(map(len, facts)) <= width
    assert "Model         resnet50.a1_in1k" in facts


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def final_files(cache: Path):
    """Whatever a load would find in a cache: blobs with their last names, and links."""
    found = [*cache.rglob("snapshots/**/*"), *cache.rglob("blobs/*")]
    return sorted(p.name for p in found if not p.is_dir() and p.suffix != ".incomplete")


def test_interrupted_pull_leaves_nothing_half_written(own_hub, tmp_path):
    own_hub.faults.add(Fault("*/model.safetensors", method="GET", stall=120))
    process = start("pull", REPO, HF_HOME=str(tmp_path / "hf"))
    wait_for(
        lambda: (
            ("GET", "model.safetensors")
            in [(request.method, request.path.rpartition("/")[2]) for request in own_hub.requests]
        )
    )
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "\nInterrupted.\n")
    config = final_files(tmp_path)
    assert "model.safetensors" not in config
    assert len(config) == 2  # the blob of config.json and its link

    own_hub.faults.clear()
    again = start("pull", REPO, "--json", HF_HOME=str(tmp_path / "hf"))
    out, err = again.communicate(timeout=60)
    assert (again.returncode, err) == (0, "")
    pulled = {Path(file).name: Path(file).read_bytes() for file in json.loads(out)["files"]}
    assert pulled == FILES


def test_interrupted_import_of_tensorflow(tmp_path, tiny):
    (tmp_path / "photo.png").write_bytes(b"an image to come")
    process = start("predict", tiny[0], tmp_path / "nowhere.png", tmp_path / "photo.png")
    assert process.stderr.readline() == f"Skipped: {tmp_path / 'nowhere.png'} is not there.\n"
    time.sleep(0.5)  # TensorFlow takes seconds
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "\nInterrupted.\n")
