"""`zoo list` and `zoo info`."""

import dataclasses
import json

import pytest
from cli_fixtures import CARD, REPO

import zoo
from zoo.cli.options import Count
from zoo.cli.output import number, size
from zoo.registry.labels import labels

LIST_KEYS = {
    "name", "architecture", "family", "task", "license", "num_params", "input_size", "top1",
    "top1_img_size",
}  # fmt: skip


def names(result):
    return [entry["name"] for entry in json.loads(result.stdout)]


def test_list_as_json_has_every_model_and_key(cli):
    entries = json.loads(cli("list", "--json").stdout)
    assert [entry["name"] for entry in entries] == zoo.list_models()
    assert all(set(entry) == LIST_KEYS for entry in entries)
    assert next(entry for entry in entries if entry["name"] == CARD) == {
        "name": CARD,
        "architecture": "test_resnet",
        "family": "resnet",
        "task": "image-classification",
        "license": "apache-2.0",
        "num_params": 469688,
        "input_size": [160, 160],
        "top1": 41.602,
        "top1_img_size": 160,
    }


@pytest.mark.parametrize(
    ("options", "filters"),
    [
        (["resnet18*"], {"pattern": "resnet18*"}),
        (["--max-params", "12M"], {"max_params": 12e6}),
        (["--min-params", "0.2B", "*bit*"], {"min_params": 2e8, "pattern": "*bit*"}),
        (["--min-top1", "84"], {"min_top1": 84}),
        (["--license", "bsd-3-clause"], {"license": "bsd-3-clause"}),
        (
            ["--license", "bsd-3-clause", "--license", "cc-by-nc-4.0", "--family", "resnet"],
            {"license": ["bsd-3-clause", "cc-by-nc-4.0"], "family": "resnet"},
        ),
        (["--task", "image-classification", "resnet50d"], {"pattern": "resnet50d"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_list_filters_as_the_function_does(cli, options, filters):
    found = names(cli("list", *options, "--json"))
    assert found == zoo.list_models(**filters)
    assert 0 < len(found) < len(zoo.list_models())


def test_list_prints_a_line_for_each_model(cli):
    lines = cli("list", "test_resnet*").stdout.splitlines()
    assert lines == [
        "name                   params  input      top-1  licence",
        "test_resnet.r160_in1k    0.5M    160  41.6 @160  apache-2.0",
    ]
    assert len(cli("list").stdout.splitlines()) == 1 + len(zoo.list_models())


def test_list_of_what_is_not_known_has_gaps(cli):
    (line,) = cli("list", "resnet50.bamboo").stdout.splitlines()[1:]
    assert line.split() == ["resnet50.bamboo", "23.5M", "224"]
    (entry,) = json.loads(cli("list", "resnet50.bamboo", "--json").stdout)
    assert (entry["top1"], entry["top1_img_size"], entry["license"]) == (None, None, None)


def test_list_of_nothing(cli):
    result = cli("list", "resnt50")
    assert result.stdout == ""
    assert result.stderr.startswith("No model is like that. Did you mean 'resnet50'")
    assert cli("list", "resnt50", "--json").stdout == "[]\n"
    assert cli("list", "--min-top1", "100").stderr == "No model is like that.\n"


def test_list_with_an_unknown_licence(cli):
    result = cli("list", "--license", "apache-2", code=1)
    assert "Did you mean 'apache-2.0'?" in result.stderr


def test_list_architectures(cli):
    entries = json.loads(cli("list", "--architectures", "--json").stdout)
    assert [entry["name"] for entry in entries] == zoo.list_architectures()
    by_name = {entry["name"]: entry for entry in entries}
    assert by_name["resnet50"] == {
        "name": "resnet50",
        "family": "resnet",
        "num_params": 25557032,
        "default": "resnet50.a1_in1k",
    }
    assert by_name["resnet50t"]["default"] is None
    assert cli("list", "--architectures", "resnet50?").stdout.splitlines()[0].split() == [
        "name", "params", "default",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"), [("30M", 30e6), ("1.5b", 1.5e9), ("500k", 5e5), ("30e6", 30e6), ("7", 7)]
)
def test_counts(text, value):
    assert Count().convert(text, None, None) == value


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (97_800_000, "97.8 MB"), (2 * 10**9, "2.0 GB")],
)
def test_sizes(count, text):
    assert size(count) == text


def test_numbers():
    assert [number(n, "file") for n in (0, 1, 1200)] == ["0 files", "1 file", "1,200 files"]


def test_info_as_json_has_every_field(cli):
    card = zoo.info("resnet50")
    data = json.loads(cli("info", "resnet50", "--json").stdout)
    assert list(data) == [field.name for field in dataclasses.fields(card)]
    assert data["weights"]["repo"] == "timm/resnet50.a1_in1k"
    assert data["preprocessing"]["crop_pct"] == 0.95
    assert data["description"] is None  # also what is not known


@pytest.mark.parametrize("name", zoo.list_models("resnetv2*") + ["resnet50t", "resnet50.bamboo"])
def test_info_of_any_card(cli, name):
    card = zoo.info(name)
    facts = dict(line.split("  ", 1) for line in cli("info", name).stdout.splitlines())
    facts = {title: value.strip() for title, value in facts.items()}
    assert facts["Model"] == card.name
    assert facts["Licence"] == (card.license or "not stated")
    assert facts["Parameters"] == f"{card.num_params:,}"
    assert ("none published" in facts["Weights"]) == (card.weights is None)


def test_info_says_how_accurate(cli):
    out = cli("info", "resnet50").stdout
    assert "imagenet-1k: top-1 80.382 %, top-5 94.598 % at 224 pixels\n" in out
    assert "imagenet-1k@288: top-1 81.24 %, top-5 95.112 % at 288 pixels\n" in out


def test_labels(cli):
    assert cli("info", "resnet50", "--labels").stdout.splitlines() == list(labels("imagenet-1k"))
    as_json = cli("info", "resnet50", "--labels", "--json").stdout
    assert json.loads(as_json) == list(labels("imagenet-1k"))
    assert "have no known names" in cli("info", "resnet50.bamboo", "--labels", code=1).stderr


def test_info_of_a_hub_repo_and_of_a_folder(cli, own_hub, tmp_path):
    of_repo = json.loads(cli("info", REPO, "--json").stdout)
    assert (of_repo["name"], of_repo["architecture"]) == (REPO, "test_resnet")
    assert "model.safetensors" not in {r.path.rpartition("/")[2] for r in own_hub.requests}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text('{"architecture": "test_resnet"}')
    of_folder = json.loads(cli("info", tmp_path / "model", "--json").stdout)
    assert of_folder["architecture"] == "test_resnet"
