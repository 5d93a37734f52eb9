"""Any bytes in any file of a repo end in a load or in a `ZooError`, in bounded time and memory."""

import json
import os
import re
import resource
import shutil
import struct
from itertools import islice

import fuzzing
import numpy as np
import pytest

import zoo
from zoo import typed
from zoo.errors import AccessError, ConfigError, FileFormatError, NotFoundError, ZooError
from zoo.parsing import LARGEST_TEXT, parse_json, read_bounded
from zoo.weights.files import open_checkpoint
from zoo.weights.folder import check_name

CASES = int(os.environ.get("ZOO_FUZZ", "150"))  # `ZOO_FUZZ=20000 pytest tests/test_fuzz.py`


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return fuzzing.folders(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def folder(sound, tmp_path):
    """A copy of a folder whose `config.json` has the given keys."""

    def make(name, **changes):
        to = shutil.copytree(sound[name], tmp_path / name)
        config = json.loads((to / "config.json").read_text())
        (to / "config.json").write_text(json.dumps(config | changes))
        return to

    return make


def test_sound_folders_are_read(sound):
    """Without a fault there is no error: else the fuzz would see nothing behind it."""
    for path in sound.values():
        fuzzing.read(path)


def test_faults_end_in_errors_of_zoo(sound):
    wrong = {
        number: fault
        for number, name, path, work in islice(fuzzing.cases(sound, 7, 0, 30), CASES)
        if (fault := fuzzing.run_case(path, work))
    }
    assert not wrong


HOSTILE = {
    "bert": [
        {"hidden_size": 10**9},
        {"hidden_size": [1]},
        {"hidden_size": 24.0},
        {"hidden_size": True},
        {"hidden_size": 0},
        {"num_attention_heads": 7},
        {"num_attention_heads": -4},
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": 4000},
        {"max_position_embeddings": 2**62},
        {"layer_norm_eps": float("nan")},
        {"layer_norm_eps": 10**400},
        {"eos_token_id": {"a": 1}},
        {"architectures": 1.5},
        {"architectures": [["BertModel"]]},
        {"model_type": ["bert"]},
        {"id2label": {"x": "y"}},
        {"id2label": {"9" * 5000: "y"}},
        {"license": 3},
    ],
    "timm_vit": [
        {"model_args": {"depth": 10**6}},
        {"model_args": {"depth": 3000}},
        {"model_args": {"embed_dim": 0}},
        {"model_args": {"num_heads": 7}},
        {"model_args": {"img_size": [10**9, 10**9]}},
        {"model_args": {"in_chans": 2**31 - 1}},
        {"model_args": {"patch_size": "16"}},
        {"model_args": [1]},
        {"model_args": {"no_such_option": 1}},
        {"num_classes": 2**40},
        {"label_names": {"0": "a", "999999999": "b"}},
        {"pretrained_cfg": {"mean": "grey"}},
        {"pretrained_cfg": {"std": []}},
        {"pretrained_cfg": {"input_size": [3]}},
        {"pretrained_cfg": 7},
    ],
    "timm_resnet": [{"model_args": {"layers": [10**6] * 4}}, {"model_args": {"layers": [999] * 4}}],
    "vit": [{"image_size": [1]}, {"patch_size": 0}, {"num_channels": 2**31 - 1}],
    "lstm": [{"tfzoo": 3}, {"tfzoo": {"architecture": "lstm_mini", "family": "resnet"}}],
}


def peak_memory() -> int:
    """The most memory that the process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize(
    ("name", "changes"), [(name, c) for name, cs in HOSTILE.items() for c in cs], ids=repr
)
def test_a_hostile_config_is_refused_at_once(folder, name, changes):
    path, before = folder(name, **changes), peak_memory()
    with pytest.raises(ZooError), fuzzing.time_limit(300):  # of hours that it would take
        zoo.load(path)
    assert peak_memory() - before < 512 << 20


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        (b"\xff\xfe{}", "UTF-8"),
        ('"\\ud800"', "UTF-8"),
        ("[" * 100_000, "nested"),
        ("[" * 500 + "]" * 500, "nested in more than"),
        ("1" * 10_000, "not valid JSON"),
    ],
)
def test_texts_that_are_no_json(text, message):
    with pytest.raises(ConfigError, match=message) as raised:
        parse_json(text, where="org/model/config.json")
    assert "org/model/config.json" in str(raised.value)


def test_texts_that_are_json():
    assert parse_json('{"a": 1, "a": 2}', where="") == {"a": 2}
    assert parse_json(b'"\\ud83d\\ude00"', where="") == "\N{GRINNING FACE}"
    assert parse_json("[" * 50 + "]" * 50, where="")


def test_a_file_of_any_size_is_not_read_whole(tmp_path):
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole
    with pytest.raises(ConfigError, match=f"more than {LARGEST_TEXT} bytes"):
        read_bounded(path, where="config.json")


@pytest.mark.parametrize(
    "name", ["../x", "a//b", "x" * 300, "\ud800", "a\nb", "a/" * 20 + "b", "/etc"]
)
def test_names_that_are_no_files_of_a_folder(name):
    with pytest.raises(NotFoundError, match="no name of a file"):
        check_name(name)


# ---------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (typed.Size, [1, 2**31 - 1], [0, -1, True, 1.0, "1", None, 2**31, [1]]),
        (typed.Count | None, [0, None], [-1, False, ""]),
        (float, [0.5, 1, -3], [True, "1", float("nan"), float("inf"), 10**400, None]),
        (typed.Rate, [0, 1, 0.5], [-0.1, 1.1, True]),
        (bool, [True, False], [0, 1, "true", None]),
        (tuple[int, ...], [[], [1, 2], (3,)], [1, "12", [1.5], {"a": 1}]),
        (tuple[typed.Size, typed.Size], [[1, 2], 3], [[1], [1, 2, 3], [0, 1], 0]),
        (tuple[typed.Size, bool, str], [[1, True, "a"]], [[1, 1, "a"], [1, True]]),
    ],
    ids=str,
)
def test_what_fits_an_annotation(hint, good, bad):
    assert [v for v in good if not typed.fits(v, hint)] == []
    assert [v for v in bad if typed.fits(v, hint)] == []


# ---------------------------------------------------------------- headers


def header(path, entries, data=b"", length=None):
    text = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.mark.parametrize(
    "shape", [[0, 2**62], [2**62, 0], [0, 2**40, 2**40], [1] * 70, [0] * 40], ids=str
)
def test_shapes_that_no_array_has(tmp_path, shape):
    size = 4 * int(0 not in shape)
    entries = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    with pytest.raises(FileFormatError, match="no array has such a one"):
        open_checkpoint(header(tmp_path / "a.safetensors", entries, bytes(size)))


def test_a_shape_with_a_zero_is_an_array(tmp_path):
    entries = {"a": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}
    array = open_checkpoint(header(tmp_path / "a.safetensors", entries))["a"]
    assert (array.shape, array.dtype) == ((0, 3), np.float32)


def test_a_header_of_any_size_is_not_read(tmp_path):
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 30) + b"{")
        file.truncate(1 << 31)
    with pytest.raises(FileFormatError, match=re.escape("at most 33554432 are read")):
        open_checkpoint(path)


def test_dtypes_that_are_no_names(tmp_path):
    entries = {"a": {"dtype": {}, "shape": [1], "data_offsets": [0, 4]}, "b": 3}
    with pytest.raises(FileFormatError):
        open_checkpoint(header(tmp_path / "a.safetensors", entries, bytes(4)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "config.json").chmod(0)
    with pytest.raises(AccessError, match="may not be read"):
        read_bounded(tmp_path / "config.json", where="config.json")
