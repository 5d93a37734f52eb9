"""The README.md of a model: what hubs read of it, what people do, and what its author wrote."""

from dataclasses import replace

import pytest
import yaml

import zoo
from zoo.errors import ConfigError, OptionError
from zoo.saving.readme import MARK, Facts, count_parameters, read_front_matter, readme

COMMIT = "c" * 40


@pytest.fixture(scope="module")
def model():
    """As if its weights came from a hub."""
    model = zoo.load("resnet_mini")
    report = replace(model.record.report, source="acme/base", commit=COMMIT)
    model.attach(replace(model.record, report=report))
    return model


def front(text):
    """The front matter as any reader of YAML has it."""
    start, block, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(block)


def test_front_matter(model):
    assert front(readme(model, "acme/digits")) == {
        "base_model": "acme/base",
        "library_name": "tfzoo",
        "license": "apache-2.0",
        "pipeline_tag": "image-classification",
        "tags": ["tfzoo", "keras", "resnet_mini"],
    }


def test_what_its_author_knows(model):
    facts = Facts(
        license="MIT",
        datasets=["acme/digits"],
        metrics={"held-out": {"accuracy": 0.995, "loss": 0.0123456}, "odd": {"accuracy": 0.5}},
        history={"loss": [1.5, 0.25], "val_loss": [2, 1]},
    )
    text = readme(model, "acme/mine", facts)
    data = front(text)
    assert data["license"] == "mit"
    assert data["datasets"] == ["acme/digits"]
    assert data["metrics"] == ["accuracy", "loss"]
    (index,) = data["model-index"]
    assert index["name"] == "mine"
    assert [result["dataset"]["name"] for result in index["results"]] == ["held-out", "odd"]
    assert index["results"][0]["task"] == {"type": "image-classification"}
    found = {m["type"]: m["value"] for m in index["results"][0]["metrics"]}
    assert found == {"accuracy": 0.995, "loss": 0.0123456}
    assert "| held-out | loss | 0.01235 |" in text
    assert "Scanned handwritten" not in text  # which is about the model that it started from
    assert "| epoch | loss | val_loss |\n| --- | --- | --- |\n| 1 | 1.5 | 2 |" in text
    assert "| 2 | 0.25 | 1 |" in text


def test_the_page(model):
    text = readme(model, "acme/mine")
    assert "\n# mine\n\nScanned handwritten digits" in text
    assert f"| Parameters | {count_parameters(model):,} |" in text
    assert count_parameters(model) == zoo.info("resnet_mini").num_params
    assert "| Input | 32 x 32, 1 channels |" in text
    assert "| Classes | 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |" in text
    assert f"| Started from | acme/base at commit {COMMIT} |" in text
    assert 'zoo.load("acme/mine")' in text
    assert 'model.classify("picture.jpg")' in text
    assert text.endswith(MARK + "\n")


def test_it_is_the_same_twice(model):
    once = readme(model, "acme/mine", Facts(metrics={"a": {"b": 1}}))
    assert readme(model, "acme/mine", before=once) == once


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("acme/net", 'timm.create_model("hf-hub:acme/net", pretrained=True)'),
        ("./net", 'timm.create_model("local-dir:./net", pretrained=True)'),
    ],
)
def test_what_timm_loads(address, line):
    net = zoo.load("test_resnet", pretrained=False)
    text = readme(net, address)
    assert front(text)["library_name"] == "timm"
    assert line in text
    shards = readme(net, address, whole=False)
    assert front(shards)["library_name"] == "tfzoo"
    assert "import timm" not in shards
    assert "base_model" not in front(text)  # random weights started from nothing


def test_a_model_does_not_start_from_itself(model):
    assert "base_model" not in front(readme(model, "acme/base"))


def test_what_the_author_wrote_stays(model):
    before = "---\nlicense: gpl-3.0\ntags: [mine]\ncolour: blue\n---\n# Mine\n\nBy hand.\n"
    text = readme(model, "acme/mine", before=before)
    data = front(text)
    assert (data["license"], data["colour"]) == ("gpl-3.0", "blue")
    assert data["tags"] == ["mine", "tfzoo", "keras", "resnet_mini"]
    assert data["base_model"] == "acme/base"
    assert text.endswith("---\n# Mine\n\nBy hand.\n")


@pytest.mark.parametrize("before", ["# Mine\n", "Mine --- and yours\n"])
def test_a_page_without_front_matter(model, before):
    text = readme(model, "acme/mine", before=before)
    assert text.endswith(f"---\n{before}")
    assert front(text)["license"] == "apache-2.0"


def test_front_matter_alone_gets_a_page(model):
    text = readme(model, "acme/mine", before="---\nlicense: mit\n---\n")
    assert "# mine" in text


@pytest.mark.parametrize("before", ["---\n- a\n---\n", "---\na: [b\n---\n", "---\n{{}}\n---\n"])
def test_front_matter_that_cannot_be_read(before):
    with pytest.raises(ConfigError, match="Correct what stands between"):
        read_front_matter(before)


def test_figures_need_a_data_set():
    with pytest.raises(OptionError, match="by data set and name"):
        Facts(metrics={"accuracy": 0.9})


def test_cells_of_tables_stay_cells(model):
    card = replace(model.record.card, labels=("a|b", "c\nd"))
    model = zoo.load("resnet_mini")
    model.attach(replace(model.record, card=card))
    assert r"| Classes | 2: a\|b, c d |" in readme(model, "acme/mine")
