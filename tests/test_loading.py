"""From a handle to a model: hub and folder, wishes and faults, and the way back by `save`."""

import json
import warnings

import keras
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from synthetic import as_trained

import zoo
from zoo.errors import (
    ConfigError,
    DiskError,
    FileFormatError,
    HandleError,
    LockError,
    NotFoundError,
    OfflineError,
    OptionError,
    UnknownNameError,
    WeightsError,
    ZooError,
)
from zoo.loading import LicenseWarning
from zoo.weights.files import open_checkpoint, save_checkpoint

X = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def original():
    keras.utils.set_random_seed(1)
    labels = list("abcdefghij")
    return as_trained(zoo.load("test_resnet", pretrained=False, num_classes=10, labels=labels))


@pytest.fixture
def folder(original, tmp_path):
    return zoo.save(original, tmp_path / "model")


def read(path):
    checkpoint = open_checkpoint(path / "model.safetensors")
    return {name: np.array(checkpoint[name]) for name in checkpoint}


def rewrite(path, change):
    """Change the tensors of a saved folder."""
    tensors = read(path)
    change(tensors)
    save_checkpoint(path / "model.safetensors", tensors)
    return path


# ---------------------------------------------------------------- the ways in


def test_a_folder(original, folder):
    model = zoo.load(folder)
    np.testing.assert_array_equal(model(X), original(X))
    assert model.labels == tuple("abcdefghij")
    assert model.load_report.fresh == ()
    assert model.load_report.ignored == ()
    assert model.load_report.source == str(folder)
    assert model.load_report.loaded == len(model.weights)
    assert str(folder) in str(model.load_report)


def test_a_relative_path(original, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    np.testing.assert_array_equal(zoo.load("./model")(X), original(X))


def test_a_hub_repo_and_no_request_when_cached(original, folder, hub, tmp_path):
    files = {p.name: p for p in folder.iterdir()}
    commit = hub.storage.commit("acme/tiny", files)
    where = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    model = zoo.load("acme/tiny", **where)
    np.testing.assert_array_equal(model(X), original(X))
    assert model.load_report.commit == commit
    assert model.load_report.source == "acme/tiny"
    asked = len(hub.requests)
    assert asked > 0
    np.testing.assert_array_equal(zoo.load("hf://acme/tiny", **where)(X), original(X))
    np.testing.assert_array_equal(zoo.load("acme/tiny", offline=True, **where)(X), original(X))
    assert len(hub.requests) == asked
    assert zoo.load(f"acme/tiny@{commit}", **where).load_report.commit == commit


def test_refresh_takes_the_new_commit_whole(original, folder, hub, tmp_path):
    hub.storage.commit("acme/tiny", {p.name: p for p in folder.iterdir()})
    where = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    zoo.load("acme/tiny", **where)
    rewrite(folder, lambda tensors: tensors["fc.bias"].fill(7))
    second = hub.storage.commit("acme/tiny", {p.name: p for p in folder.iterdir()})
    assert zoo.load("acme/tiny", **where).load_report.commit != second
    refreshed = zoo.load("acme/tiny", refresh=True, **where)
    assert refreshed.load_report.commit == second
    assert (refreshed.get_layer("fc").bias.numpy() == 7).all()


def test_a_lockfile_refuses_anything_else(folder, hub, tmp_path):
    hub.storage.commit("acme/tiny", {p.name: p for p in folder.iterdir()})
    lock = {"version": 1, "files": []}
    (tmp_path / "zoo.lock").write_text(json.dumps(lock))
    where = {"endpoint": hub.url, "cache_dir": tmp_path / "cache"}
    with pytest.raises(LockError, match="acme/tiny"):
        zoo.load("acme/tiny", lockfile=tmp_path / "zoo.lock", **where)


def test_weights_of_ones_own(original, folder):
    model = zoo.load(
        "test_resnet", weights=folder / "model.safetensors", num_classes=10, labels=range(10)
    )
    np.testing.assert_array_equal(model(X), original(X))
    with pytest.raises(NotFoundError, match="no such file"):
        zoo.load("test_resnet", weights=folder / "nope.safetensors")


def test_shards(original, folder):
    tensors = read(folder)
    names = sorted(tensors)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_checkpoint(folder / file, {n: tensors[n] for n in part})
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    model = zoo.load(folder)
    np.testing.assert_array_equal(model(X), original(X))
    assert len(model.load_report.files) == 2


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_file_dtypes_are_read_followed_and_written_back(folder, tmp_path, dtype):
    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    def narrow(tensors):
        for name in list(tensors):
            if tensors[name].dtype == np.float32:
                tensors[name] = tensors[name].astype(kind)

    stored = read(rewrite(folder, narrow))
    assert zoo.load(folder).get_layer("fc").kernel.dtype == "float32"
    model = zoo.load(folder, dtype="auto")
    assert model.get_layer("fc").kernel.dtype == dtype
    assert model.load_report.dtype == dtype
    again = read(zoo.save(zoo.load(folder), tmp_path / "again"))
    assert {n: (t.dtype, t.tobytes()) for n, t in again.items()} == {
        n: (t.dtype, t.tobytes()) for n, t in stored.items()
    }


# ---------------------------------------------------------------- wishes


def test_another_number_of_classes(folder):
    model = zoo.load(folder, num_classes=4)
    assert model(X).shape == (2, 4)
    assert model.load_report.fresh == ("fc.kernel", "fc.bias")
    assert model.load_report.ignored == ("fc.bias", "fc.weight")
    assert model.labels is None


def test_the_same_number_of_classes_keeps_the_head(original, folder):
    model = zoo.load(folder, num_classes=10)
    assert model.load_report.fresh == ()
    np.testing.assert_array_equal(model(X), original(X))


def test_no_classes(original, folder):
    model = zoo.load(folder, num_classes=0)
    expected = keras.Model(original.input, original.embedding_tensor)(X)
    np.testing.assert_array_equal(model(X), expected)
    assert zoo.load(folder, task="image-feature-extraction").output_shape == (None, 96)


def test_labels_alone_set_the_classes(folder):
    model = zoo.load(folder, labels=["x", "y"])
    assert model.output_shape == (None, 2)
    assert model.labels == ("x", "y")
    with pytest.raises(OptionError, match="2 labels were given for 3 classes"):
        zoo.load(folder, labels=["x", "y"], num_classes=3)


def test_features_of_early_stages_need_no_later_weights(original, folder):
    model = zoo.load(folder, features_only=True, out_indices=(0, 2))
    assert [f.name for f in model.feature_info] == ["act1", "layer2"]
    expected = keras.Model(original.input, original.get_layer("layer2.0").output)(X)
    np.testing.assert_array_equal(model(X)[1], expected)
    assert "layer4.0.conv1.weight" in model.load_report.ignored


def test_options_of_the_architecture(folder):
    model = zoo.load(folder, drop_rate=0.2, drop_path_rate=0.1, input_size=(64, 96))
    assert model.get_layer("drop").rate == 0.2
    assert model.card.preprocessing.input_size == (64, 96)
    assert model.input_shape == (None, 64, 96, 3)
    assert model.card.config["drop_path_rate"] == 0.1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_clases": 3}, "num_clases.*Did you mean 'num_classes'"),
        ({"drop_paths": 0.1}, "Did you mean 'drop_path_rate'"),
        ({"num_classes": -1}, "num_classes must be 0 or more; got -1"),
        ({"in_channels": 0}, "in_channels must be at least 1; got 0"),
        ({"input_size": (1, 2, 3)}, "input_size is an edge"),
        ({"dtype": "float31"}, "dtype='float31' is no Keras dtype policy"),
        ({"features_only": True, "out_indices": (5,)}, "out_indices has 5.*0 to 4"),
        ({"task": "text-generation"}, "task='text-generation' cannot be built"),
    ],
)
def test_options_that_cannot_be(folder, options, match):
    with pytest.raises(OptionError, match=match):
        zoo.load(folder, **options)


def test_pretrained_false_reads_and_asks_nothing(tmp_path):
    model = zoo.load("resnet18.a1_in1k", pretrained=False, endpoint="http://127.0.0.1:9")
    assert model.load_report.loaded == 0
    assert len(model.load_report.fresh) == len(model.weights)


def test_a_restricted_licence_is_said_once():
    name = next(n for n in zoo.list_models() if "nc" in (zoo.info(n).license or ""))
    with pytest.warns(LicenseWarning, match="restricts its use"):
        zoo.load(name, pretrained=False, layers=(1, 1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zoo.load(name, pretrained=False, layers=(1, 1, 1, 1))


# ---------------------------------------------------------------- what is wrong


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="resnet50"):
        zoo.load("resnet5O")
    with pytest.raises(UnknownNameError, match="a1_in1k"):
        zoo.load("resnet50.a1_in2k")


@pytest.mark.parametrize("handle", ["https://example.com/model.safetensors", "a/b/c", "a b/c"])
def test_handles_that_name_no_model(handle):
    with pytest.raises(HandleError):
        zoo.load(handle)


def test_no_network_says_what_to_do(tmp_path):
    with pytest.raises(ZooError, match=r"127\.0\.0\.1:9"):
        zoo.load("resnet18", endpoint="http://127.0.0.1:9", cache_dir=tmp_path)
    with pytest.raises(OfflineError, match="zoo pull"):
        zoo.load("resnet18", offline=True, cache_dir=tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(NotFoundError, match="nowhere"):
        zoo.load(tmp_path / "nowhere")


def test_a_folder_without_config(folder):
    (folder / "config.json").unlink()
    with pytest.raises(NotFoundError, match=r"config\.json"):
        zoo.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(architecture="resnet_50"), "Did you mean 'resnet50'"),
        (lambda c: c["model_args"].update(layer=[1]), "layer, which family 'resnet'"),
        (lambda c: c["model_args"].update(act_layer="relu7"), "act_layer='relu7'"),
    ],
)
def test_a_config_that_cannot_be(folder, change, match):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.setdefault("model_args", {})
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises((ConfigError, UnknownNameError), match=match):
        zoo.load(folder)


def test_a_config_that_is_no_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json is not valid JSON"):
        zoo.load(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop("layer1.0.conv1.weight"), r"needs 1 tensor\(s\): layer1.0.conv1.weight"),
        (lambda t: t.update(aux=np.zeros(2)), r"no place in the model, 1 tensor\(s\): aux"),
        (lambda t: t.update({"fc.bias": np.zeros(3)}), r"fc.bias: the file gives \(3,\)"),
    ],
)
def test_tensors_that_do_not_fit(folder, change, match):
    with pytest.raises(WeightsError, match=match):
        zoo.load(rewrite(folder, change))


def test_pickle_alone_is_never_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileFormatError, match=r"pytorch_model\.bin"):
        zoo.load(folder)


def test_a_truncated_file(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError):
        zoo.load(folder)


def test_a_failed_load_leaves_keras_usable(folder):
    with pytest.raises(WeightsError):
        zoo.load(rewrite(folder, lambda t: t.pop("fc.bias")))
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert layer.kernel.numpy().shape == (3, 2)


# ---------------------------------------------------------------- save


def test_save_writes_the_reference_layout(original, folder):
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "config.json", "README.md"}
    with safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_slice("conv1.0.weight").get_shape() == [16, 3, 3, 3]
        assert file.get_slice("bn1.num_batches_tracked").get_shape() == []
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "test_resnet"
    assert config["num_classes"] == 10
    assert config["label_names"] == list("abcdefghij")
    assert "zoo.load" in (folder / "README.md").read_text()


def test_counters_of_the_file_come_back(folder, tmp_path):
    rewrite(folder, lambda t: t.update({"bn1.num_batches_tracked": np.array(4711)}))
    model = zoo.load(folder)
    model.save(tmp_path / "m.keras")
    again = zoo.save(keras.models.load_model(tmp_path / "m.keras"), tmp_path / "again")
    assert read(again)["bn1.num_batches_tracked"] == 4711


def test_what_is_trained_is_what_is_saved(folder, tmp_path):
    model = zoo.load(folder)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(X, np.array([0, 1]), verbose=0)
    again = zoo.load(zoo.save(model, tmp_path / "trained"))
    np.testing.assert_array_equal(again(X), model(X))
    assert (again(X).numpy() != zoo.load(folder)(X).numpy()).any()


def test_save_refuses_what_no_library_could_load(folder, tmp_path):
    with pytest.raises(OptionError, match="features_only"):
        zoo.save(zoo.load(folder, features_only=True), tmp_path / "maps")
    with pytest.raises(OptionError, match="no card"):
        zoo.save(keras.models.clone_model(zoo.load(folder)), tmp_path / "clone")
    with pytest.raises(OptionError, match="got Sequential"):
        zoo.save(keras.Sequential([keras.layers.Dense(1)]), tmp_path / "plain")
    assert not (tmp_path / "maps").exists()


def test_save_keeps_other_files_and_leaves_nothing_behind(original, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    zoo.save(original, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "notes.txt",
        "model.safetensors",
        "config.json",
        "README.md",
    }


def test_save_into_a_file_is_an_error(original, tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(DiskError, match="taken"):
        zoo.save(original, tmp_path / "taken")
