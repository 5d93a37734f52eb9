"""`zoo.publish`: what the gate lets through, what it stops, and what is there afterwards."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hub_fixtures import MEMBER, REPO
from safetensors.numpy import load_file, save_file
from synthetic import as_trained

import zoo
from zoo.errors import (
    AccessError,
    DiskError,
    FileFormatError,
    HandleError,
    OptionError,
    PublishError,
)
from zoo.publishing import publish
from zoo.saving.readme import MARK, read_front_matter
from zoo.weights.disk import sha256_of

# of how the hub's client calls its own HTTP library to send a content
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

X = np.random.default_rng(0).normal(size=(2, 64, 48, 3)).astype(np.float32)
THREE = ["README.md", "config.json", "model.safetensors"]
PICKLE = pickle.dumps({"w": 1})


@pytest.fixture(scope="module")
def model():
    """A small model with three labels and no licence, as if somebody had trained it."""
    keras.utils.set_random_seed(3)
    return as_trained(zoo.load("test_resnet", pretrained=False, labels=["cat", "dog", "owl"]))


@pytest.fixture
def folder(model, tmp_path):
    """What `zoo.save` made of it, under a licence."""
    folder = zoo.save(model, tmp_path / "source")
    edit(folder, lambda config: config["pretrained_cfg"].update(license="mit"))
    return folder


@pytest.fixture
def to_hub(hub, tmp_path, monkeypatch):
    """Publishes as `REPO` on the hub."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))

    def run(source, **options):
        return publish(source, REPO, endpoint=hub.url, token=MEMBER, **options)

    return run


def edit(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def from_hub(hub, tmp_path):
    return zoo.load(REPO, endpoint=hub.url, token=MEMBER, cache_dir=tmp_path / "cache")


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def on_hub(hub, revision="main"):
    files = hub.storage.commit_at(hub.storage.repo(REPO), revision).files
    return {name: blob for name, blob in files.items() if name != ".gitattributes"}


def refused(source, target, check, **options):
    """The sentence of the one check that stops a publication."""
    with pytest.raises(PublishError, match="nothing was sent") as caught:
        publish(source, target, **options)
    (failure,) = caught.value.report.failures
    assert failure.name == check
    assert failure.found in str(caught.value)
    return failure.found


# To a hub and back


def test_what_was_published_loads_and_gives_the_same(hub, to_hub, model, tmp_path):
    done = to_hub(model, license="apache-2.0", tag="v1", message="First")
    again = from_hub(hub, tmp_path)
    np.testing.assert_array_equal(again(X), model(X))
    assert again.labels == model.labels
    assert again.card.license == "apache-2.0"
    assert again.load_report.commit == done.commit
    assert hub.storage.repo(REPO).tags == {"v1": done.commit}
    assert (done.repo, done.url) == (REPO, f"{hub.url}/{REPO}")
    assert sorted(on_hub(hub)) == THREE


def test_the_report(to_hub, model):
    report = to_hub(model, license="mit", dry_run=True).report
    assert report.passed
    assert [check.name for check in report.checks] == [
        "names and sizes",
        "no executable formats",
        "finite values",
        "training",
        "strict reload",
        "labels and preprocessing",
        "licence",
        "architecture",
        "page",
        "one checkpoint",
    ]
    assert report.checks[4].found == "outputs are the same, bit for bit"
    assert [(file.name, file.state) for file in report.files] == [(n, "added") for n in THREE]
    assert report.bytes == sum(file.size for file in report.files)
    assert report.parameters == sum(np.prod(w.shape) for w in model.trainable_weights)
    data = json.loads(json.dumps(report.to_dict()))
    assert data["passed"] is True
    assert data["files"][2]["sha256"] == report.files[2].sha256
    assert "ok       licence: mit" in str(report)


def test_the_diff(hub, to_hub, model, folder):
    to_hub(folder)
    hub.storage.commit(REPO, {"notes.txt": b"mine"})
    edit(folder, lambda config: config.update(num_features=1))
    report = to_hub(folder, dry_run=True).report
    states = {file.name: file.state for file in report.files}
    assert states == {
        "README.md": "same",
        "config.json": "changed",
        "model.safetensors": "same",
        "notes.txt": "stays",
    }
    assert "notes.txt" in on_hub(hub)
    report = to_hub(folder, prune=True).report
    assert {file.name: file.state for file in report.files}["notes.txt"] == "removed"
    assert sorted(on_hub(hub)) == THREE


def test_a_dry_run_writes_nothing(hub, to_hub, model):
    done = to_hub(model, license="mit", dry_run=True, private=True, tag="v1")
    assert (done.commit, done.url) == (None, None)
    assert {request.method for request in hub.requests} == {"GET"}
    assert hub.storage.repos() == []


def test_the_report_is_shown_before_anything_is_sent(hub, to_hub, model):
    shown = []
    to_hub(model, license="mit", show=lambda report: shown.append((report, len(hub.requests))))
    ((report, asked),) = shown
    assert report.passed
    assert {request.method for request in hub.requests[:asked]} == {"GET"}
    assert "POST" in {request.method for request in hub.requests[asked:]}


def test_a_refusal_sends_nothing_and_is_shown(hub, to_hub, model):
    shown = []
    with pytest.raises(PublishError):
        to_hub(model, show=shown.append)
    assert not shown[0].passed
    assert {request.method for request in hub.requests} == {"GET"}


def test_private_on_a_public_repo_is_refused(hub, to_hub, model):
    to_hub(model, license="mit")
    with pytest.raises(PublishError, match="public: make it private"):
        to_hub(model, license="mit", private=True)


def test_no_token_is_sent_where_none_is_wanted(hub, model, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    with pytest.raises(AccessError, match="takes a token, and there is none"):
        publish(model, REPO, token=False, license="mit")
    assert not any("authorization" in request.headers for request in hub.requests)
    publish(model, REPO, license="mit")
    assert sorted(on_hub(hub)) == THREE


def test_revision_of_the_handle(hub, model):
    publish(model, f"{REPO}@next", endpoint=hub.url, token=MEMBER, license="mit")
    assert sorted(on_hub(hub, "next")) == THREE
    assert on_hub(hub) == {}


# The gate


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(folder, tmp_path, value):
    tensors = load_file(folder / "model.safetensors")
    tensors["fc.weight"][0, :2] = value
    save_file(tensors, folder / "model.safetensors")
    found = refused(folder, tmp_path / "to", "finite values")
    assert found == "fc.weight has 2 NaN or infinite values"
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("license", "found"),
    [
        (None, "none is stated: pass license="),
        ("unknown", "none is stated"),
        ("apache 2.0", "Did you mean 'apache-2.0'"),
        ("MIT AND Apache-2.0", "no identifier"),
        ("other", "Add a file LICENSE"),
        ("LicenseRef-acme", "Add a file LICENSE"),
    ],
)
def test_licences_that_are_not_enough(model, tmp_path, license, found):
    assert found in refused(model, tmp_path / "to", "licence", license=license)


@pytest.mark.filterwarnings("ignore::zoo.loading.LicenseWarning")
@pytest.mark.parametrize("license", ["MIT", "CC-BY-NC-4.0", "openrail", "llama3.1", "bsd"])
def test_licences_that_are_known(model, tmp_path, license):
    publish(model, tmp_path / "to", license=license)
    assert zoo.load(tmp_path / "to").card.license == license
    front, _ = read_front_matter((tmp_path / "to" / "README.md").read_text())
    assert front.license == license.lower()


def test_terms_of_ones_own(folder, tmp_path):
    (folder / "LICENSE").write_text("Be kind.")
    publish(folder, tmp_path / "to", license="other")
    assert (tmp_path / "to" / "LICENSE").read_text() == "Be kind."


def test_licences_that_contradict_each_other(folder, tmp_path):
    (folder / "README.md").write_text("---\nlicense: gpl-3.0\n---\n# Mine\n")
    found = refused(folder, tmp_path / "to", "licence")
    assert found.startswith("README.md says 'gpl-3.0', config.json 'mit'")
    publish(folder, tmp_path / "to", license="mit")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "logs/optimizer.pt", "m.keras", "model.py"])
def test_code_in_the_folder(folder, tmp_path, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(PICKLE)
    found = refused(folder, tmp_path / "to", "no executable formats")
    assert found == f"{name} can run code when read: move it out of the folder"


@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.txt", "LICENSE"])
def test_a_pickle_under_another_name(folder, tmp_path, name):
    (folder / name).write_bytes(PICKLE)
    found = refused(folder, tmp_path / "to", "no executable formats")
    assert found.startswith(f"{name} is not what its name says")


def test_an_empty_file(folder, tmp_path):
    (folder / "vocab.txt").touch()
    assert refused(folder, tmp_path / "to", "names and sizes") == "'vocab.txt' is empty"


def test_a_page_of_zoos_own_follows_the_config(folder, tmp_path):
    assert "license" not in (folder / "README.md").read_text()
    edit(folder, lambda config: config["pretrained_cfg"].update(license="bsd-3-clause"))
    publish(folder, tmp_path / "to")
    assert "license: bsd-3-clause" in (tmp_path / "to" / "README.md").read_text()


def test_front_matter_that_cannot_be_read(folder, tmp_path):
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    with pytest.raises(zoo.errors.ConfigError, match=r"front matter of README\.md"):
        publish(folder, tmp_path / "to")


def test_outputs_within_the_rounding_of_the_file(model, tmp_path, monkeypatch):
    """A model that was trained in float32 and came from a file in bfloat16."""
    model = zoo.load(zoo.save(model, tmp_path / "a"))
    model.attach(replace(model.record, file_dtype="bfloat16"))
    report = publish(model, tmp_path / "to", license="mit").report
    found = {check.name: check.found for check in report.checks}["strict reload"]
    assert found.startswith("outputs differ by")
    assert found.endswith("0.12 is allowed for bfloat16")
    monkeypatch.setattr("zoo.publishing.gate._ROUNDING", 0)
    assert "outputs differ by" in refused(model, tmp_path / "to", "strict reload", license="mit")


def test_a_reload_that_fails(model, tmp_path, monkeypatch):
    """A file that lost a tensor on the way to the disk."""
    from zoo import saving

    whole = saving.tensors
    monkeypatch.setattr(
        saving, "tensors", lambda m: {k: v for k, v in whole(m).items() if k != "fc.bias"}
    )
    assert "fc.bias" in refused(model, tmp_path / "to", "strict reload", license="mit")


@pytest.mark.parametrize("theirs", ["resnet18", "bert"])
def test_another_architecture_is_not_replaced(hub, to_hub, model, theirs):
    key = "architecture" if theirs == "resnet18" else "model_type"
    hub.storage.commit(REPO, {"config.json": json.dumps({key: theirs}).encode()})
    with pytest.raises(PublishError, match=f"test_resnet would replace {theirs}"):
        to_hub(model, license="mit")
    assert sorted(on_hub(hub)) == ["config.json"]
    to_hub(model, license="mit", force=True)
    assert sorted(on_hub(hub)) == THREE


def test_a_page_written_by_hand_is_not_replaced(hub, to_hub, model, folder):
    page = "---\nlicense: mit\n---\n# By hand\n"
    hub.storage.commit(REPO, {"README.md": page.encode()})
    with pytest.raises(PublishError, match=r"README\.md there was written by hand"):
        to_hub(model, license="mit")
    (folder / "README.md").write_text(page)
    to_hub(folder)
    text = hub.storage.blob_path(on_hub(hub)["README.md"]).read_text()
    assert text.endswith("# By hand\n")
    assert "pipeline_tag: image-classification" in text
    to_hub(model, license="mit", force=True)
    assert MARK in hub.storage.blob_path(on_hub(hub)["README.md"]).read_text()


# Folders


def test_a_folder_is_published_as_it_is(hub, to_hub, folder):
    (folder / "1_Pooling").mkdir()
    (folder / "sub").mkdir()
    (folder / ".git").mkdir()
    for name in ("1_Pooling/config.json", "tokenizer.json", "sub/config.json", ".git/config.json"):
        (folder / name).write_text("{}")
    (folder / "tokenizer.model").write_bytes(b"\x0a\xff")
    (folder / "notes.csv").write_text("1,2")
    done = to_hub(folder)
    expected = ["1_Pooling/config.json", *THREE, "tokenizer.json", "tokenizer.model"]
    assert sorted(on_hub(hub)) == sorted(expected)
    assert done.report.left_out == ("notes.csv", "sub/config.json")
    assert "left out: notes.csv, sub/config.json" in done.report.checks[0].found
    weights = on_hub(hub)["model.safetensors"]
    assert weights.sha256 == sha256_of(folder / "model.safetensors")


def test_a_folder_that_cannot_be_loaded(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin"):
        publish(folder, tmp_path / "to")


def test_into_a_folder(model, tmp_path):
    done = publish(model, tmp_path / "a" / "to", license="mit")
    assert names(tmp_path / "a" / "to") == THREE
    assert (done.commit, done.url) == (None, str(tmp_path / "a" / "to"))
    np.testing.assert_array_equal(zoo.load(tmp_path / "a" / "to")(X), model(X))


def test_a_folder_onto_itself(folder):
    before = sha256_of(folder / "model.safetensors")
    publish(folder, folder, license="mit")
    assert names(folder) == THREE
    assert sha256_of(folder / "model.safetensors") == before


@pytest.mark.parametrize("prune", [False, True])
def test_other_files_of_the_folder(model, tmp_path, prune):
    (tmp_path / "to" / ".git").mkdir(parents=True)
    for name in ("notes.txt", ".git/config"):
        (tmp_path / "to" / name).write_text("mine")
    publish(model, tmp_path / "to", license="mit", prune=prune)
    mine = [".git/config"] if prune else [".git/config", "notes.txt"]
    assert names(tmp_path / "to") == sorted([*THREE, *mine])


def test_a_folder_is_as_it_was_after_a_fault(folder, model, tmp_path, monkeypatch):
    """In the middle of putting the finished files into their places."""
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    move, moved = Path.replace, []

    def fail(path, target):
        if path.parent.name.startswith(".saving-") and path.name == "model.safetensors":
            raise OSError(5, "Input/output error")
        if target.parent == folder:
            moved.append(target.name)
        return move(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DiskError, match="nothing was changed"):
        publish(model, folder, license="apache-2.0", force=True)
    assert moved == ["README.md", "config.json", "model.safetensors", "config.json", "README.md"]
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_file_in_the_place_of_the_folder(model, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(FileFormatError, match="is a file"):
        publish(model, tmp_path / "taken", license="mit")


# Shards


def test_large_weights_come_in_shards(hub, to_hub, model, tmp_path):
    done = to_hub(model, license="mit", max_shard_size="1MB")
    weights = [name for name in on_hub(hub) if name.startswith("model")]
    assert len(weights) > 2
    assert weights[0] == f"model-00001-of-{len(weights) - 1:05}.safetensors"
    assert weights[-1] == "model.safetensors.index.json"
    again = from_hub(hub, tmp_path)
    np.testing.assert_array_equal(again(X), model(X))
    assert again.load_report.commit == done.commit
    text = hub.storage.blob_path(on_hub(hub)["README.md"]).read_text()
    assert "library_name: tfzoo" in text  # timm reads one file alone
    assert "timm.create_model" not in text


def test_a_folder_is_cut_into_shards_and_shards_stay(folder, model, tmp_path):
    publish(folder, tmp_path / "shards", max_shard_size=10**6)
    shards = names(tmp_path / "shards")
    assert "model.safetensors" not in shards
    publish(tmp_path / "shards", tmp_path / "same", max_shard_size="1GB")
    assert names(tmp_path / "same") == shards
    np.testing.assert_array_equal(zoo.load(tmp_path / "same")(X), model(X))


def test_weights_in_another_form_do_not_stay_beside_them(hub, to_hub, model, tmp_path):
    to_hub(model, license="mit", max_shard_size="1MB")
    with pytest.raises(PublishError, match=r"model-00001-of-.* would stay there.*prune=True"):
        to_hub(model, license="mit")
    to_hub(model, license="mit", prune=True)
    assert sorted(on_hub(hub)) == THREE


def test_save_replaces_weights_in_another_form(model, tmp_path):
    zoo.save(model, tmp_path / "m", max_shard_size="1MB")
    assert "model.safetensors" not in names(tmp_path / "m")
    np.testing.assert_array_equal(zoo.load(tmp_path / "m")(X), model(X))
    zoo.save(model, tmp_path / "m")
    assert names(tmp_path / "m") == THREE


def test_a_size_that_is_none(model, tmp_path):
    with pytest.raises(OptionError, match="'5 parsecs' is no size"):
        zoo.save(model, tmp_path / "m", max_shard_size="5 parsecs")
    assert not (tmp_path / "m").exists()


# Arguments


@pytest.mark.parametrize(
    ("target", "options", "error", "match"),
    [
        ("./to", {"tag": "v1", "private": True}, OptionError, "takes no private, tag"),
        ("./to", {"endpoint": "http://127.0.0.1"}, OptionError, "takes no endpoint"),
        ("resnet50", {}, HandleError, "'resnet50' is no place to publish to"),
        ("https://host/x", {}, HandleError, "no place to publish to"),
        (REPO, {"create_pr": True, "tag": "v1"}, OptionError, "pull request gets no tag"),
        (REPO, {"revision": "a" * 40}, OptionError, "name a branch"),
        (REPO, {"metrics": {"accuracy": 0.9}}, OptionError, "by data set and name"),
    ],
)
def test_arguments_that_make_no_sense(model, tmp_path, monkeypatch, target, options, error, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=match):
        publish(model, target, license="mit", **options)
    assert list(tmp_path.iterdir()) == []


def test_models_that_no_library_could_load(folder, tmp_path):
    maps = zoo.load(folder, features_only=True)
    for model in (maps, keras.Sequential([keras.layers.Dense(1)])):
        with pytest.raises(OptionError):
            publish(model, tmp_path / "to", license="mit")
    assert not (tmp_path / "to").exists()


def test_frozen_layers_count_as_parameters(folder, tmp_path):
    model = zoo.load(folder)
    count = publish(model, tmp_path / "a", dry_run=True).report.parameters
    model.trainable = False
    assert publish(model, tmp_path / "a", dry_run=True).report.parameters == count > 0


def test_a_disk_that_is_full(folder, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskError, match="MB left"):
        publish(folder, tmp_path / "to")
    assert not (tmp_path / "to").exists()
