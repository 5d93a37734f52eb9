from pathlib import Path

import pytest

from zoo.errors import HandleError
from zoo.weights.handle import Handle, Source, parse_handle

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = {"resnet50", "resnet50.a1_in1k", "odd/card@name"}


def parse(text):
    return parse_handle(text, NAMES.__contains__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resnet50", Handle(kind="card", name="resnet50")),
        ("resnet50.a1_in1k", Handle(kind="card", name="resnet50.a1_in1k")),
        ("resnet49", Handle(kind="card", name="resnet49")),
        ("odd/card@name", Handle(kind="card", name="odd/card@name")),
        ("timm/resnet50.a1_in1k", Handle(kind="hub", name="timm/resnet50.a1_in1k")),
        ("hf://timm/resnet50", Handle(kind="hub", name="timm/resnet50")),
        (f"timm/r50@{COMMIT}", Handle(kind="hub", name="timm/r50", revision=COMMIT)),
        ("hf://timm/r50@refs/pr/1", Handle(kind="hub", name="timm/r50", revision="refs/pr/1")),
        ("./model", Handle(kind="path", name="model")),
        ("../model", Handle(kind="path", name="../model")),
        ("/models/x@y", Handle(kind="path", name="/models/x@y")),
        (".", Handle(kind="path", name=".")),
        (Path("timm/resnet50"), Handle(kind="path", name="timm/resnet50")),
        ("https://host/a.safetensors", Handle(kind="url", name="https://host/a.safetensors")),
    ],
)
def test_each_form_has_one_meaning(text, expected):
    assert parse(text) == expected


def test_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("~/model").name == "/home/ada/model"
    assert parse(Path("~/model")).name == "/home/ada/model"


def test_the_disk_is_not_asked(tmp_path, monkeypatch):
    (tmp_path / "timm" / "resnet50").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse("timm/resnet50").kind == "hub"


@pytest.mark.parametrize(
    "text",
    [
        "a/b/c",
        "timm/r50@",
        "@main",
        "-x/y",
        "timm/",
        "a b/c",
        "http://host/a",
        "C:\\model",
        7,
        None,
    ],
)
def test_anything_else_is_an_error(text):
    with pytest.raises(HandleError):
        parse(text)


def test_plain_http_is_refused_by_name():
    with pytest.raises(HandleError, match="Use https"):
        parse("http://host/model.safetensors")


def test_handle_reads_as_it_was_written():
    assert str(parse("timm/r50@v1")) == "timm/r50@v1"
    assert str(parse("timm/r50")) == "timm/r50"


def test_source_defaults_ask_for_nothing():
    assert Source() == Source(
        revision=None,
        endpoint=None,
        token=None,
        cache_dir=None,
        offline=None,
        lockfile=None,
        refresh=False,
    )
