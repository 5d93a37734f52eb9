import hashlib
import json

import numpy as np
import pytest

from zoo.errors import FileFormatError, IntegrityError, NotFoundError
from zoo.weights.files import open_checkpoint, save_checkpoint
from zoo.weights.folder import LocalFolder

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    return LocalFolder(tmp_path)


def put(folder, *names):
    for name in names:
        save_checkpoint(folder.path / name, {name: np.zeros(1)})


def put_index(folder, shards, name="model.safetensors.index.json"):
    weight_map = {f"tensor{i}": shard for i, shard in enumerate(shards)}
    (folder.path / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_a_folder_says_what_it_is(folder, tmp_path):
    assert (folder.origin, folder.commit) == (str(tmp_path), None)


def test_files(folder, tmp_path):
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text("{}")
    assert folder.file("config.json") == tmp_path / "config.json"
    assert folder.file("1_Pooling/config.json") == tmp_path / "1_Pooling" / "config.json"
    assert folder.file("labels.json", required=False) is None
    with pytest.raises(
        NotFoundError, match=r"no file 'conf\.json'.*'config\.json'.*It has: config"
    ):
        folder.file("conf.json")


def test_a_hash_is_checked(folder, tmp_path):
    sha256 = hashlib.sha256(b"{}").hexdigest()
    assert folder.file("config.json", sha256=sha256) == tmp_path / "config.json"
    with pytest.raises(
        IntegrityError, match=rf"has the sha256 {sha256}; expected 00.*left as it is"
    ):
        folder.file("config.json", sha256="0" * 64)
    assert (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "", "a//b", "./a", "a\\..\\b", "C:a", "a\0b"]
)
def test_names_stay_inside(folder, name):
    (folder.path.parent / "secret").write_text("x")
    with pytest.raises(NotFoundError, match="no name of a file inside"):
        folder.file(name, required=False)


def test_single_weights_come_first(folder, tmp_path):
    put(folder, "model.safetensors", "open_clip_model.safetensors", *SHARDS)
    put_index(folder, SHARDS)
    assert folder.weights() == [tmp_path / "model.safetensors"]
    assert folder.weights("open_clip_model.safetensors") == [
        tmp_path / "open_clip_model.safetensors"
    ]


def test_shards(folder, tmp_path):
    put(folder, *SHARDS, "open_clip_model.safetensors")
    put_index(folder, [*reversed(SHARDS), SHARDS[0]])
    assert folder.weights() == [tmp_path / name for name in SHARDS]
    assert open_checkpoint(folder.weights()).names == SHARDS


def test_another_index_by_name(folder, tmp_path):
    put(folder, "a.fp16-1.safetensors", "model.safetensors")
    put_index(folder, ["a.fp16-1.safetensors"], "a.fp16.safetensors.index.json")
    assert folder.weights("a.fp16.safetensors.index.json") == [tmp_path / "a.fp16-1.safetensors"]


def test_open_clip_weights_come_last(folder, tmp_path):
    put(folder, "open_clip_model.safetensors")
    assert folder.weights() == [tmp_path / "open_clip_model.safetensors"]


@pytest.mark.parametrize(
    "shard",
    [
        "../secret.safetensors",
        "/etc/passwd",
        "/tmp/a.safetensors",
        "sub/a.safetensors",
        "..",
        "..safetensors",
        "a\\b.safetensors",
        "C:a.safetensors",
        "pytorch_model.bin",
        "a.safetensors\0",
        "a.safetensors\n",
        "",
        7,
        None,
        ["a"],
    ],
)
def test_an_index_cannot_point_elsewhere(folder, shard):
    save_checkpoint(folder.path.parent / "secret.safetensors", {"a": np.zeros(1)})
    put_index(folder, [shard])
    with pytest.raises(FileFormatError, match=r"index\.json"):
        folder.weights()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {}}', "\0"])
def test_a_damaged_index_is_an_error(folder, text):
    (folder.path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"no index of shards|lists no shards|not valid JSON"):
        folder.weights()


def test_a_missing_shard_is_named(folder):
    put(folder, SHARDS[0])
    put_index(folder, SHARDS)
    with pytest.raises(NotFoundError, match=f"no file '{SHARDS[1]}'"):
        folder.weights()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.ckpt", "tf_model.h5", "flax_model.msgpack"]
)
def test_other_formats_are_never_read(folder, name):
    (folder.path / name).write_bytes(b"\x80\x04")
    with pytest.raises(FileFormatError, match=rf"only {name}\..*save it as safetensors.*publisher"):
        folder.weights()
    with pytest.raises(FileFormatError, match="safetensors alone"):
        folder.weights(name)


def test_no_weights(folder):
    with pytest.raises(NotFoundError, match=r"no file 'model\.safetensors'.*It has: config\.json"):
        folder.weights()


def test_no_folder(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFoundError, match=r"No folder .*chekpoint.*Did you mean 'checkpoint'"):
        LocalFolder(tmp_path / "chekpoint")
    with pytest.raises(NotFoundError, match="No folder"):
        LocalFolder(tmp_path / "no" / "such")
    with pytest.raises(FileFormatError, match="is a file; a folder"):
        LocalFolder(tmp_path / "file")
