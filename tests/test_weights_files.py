import json
import os
import stat

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from weights_processes import read_only, run_python

from zoo.errors import FileFormatError, NotFoundError
from zoo.weights import files
from zoo.weights.files import DTYPES, open_checkpoint, save_checkpoint


def written(path, header, data=b""):
    """A file with any header at all, true or false."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def random_array(dtype, shape=(3, 5)):
    raw = np.random.default_rng(7).integers(0, 2, (*shape, dtype.itemsize), np.uint8)
    return np.ascontiguousarray(raw).view(dtype).reshape(shape)


@pytest.fixture(params=["mapped", "read"])
def access(request, monkeypatch):
    """Both ways to the data: mapped, and read as on a network file system."""
    if request.param == "read":
        monkeypatch.setattr(files, "_is_remote", lambda path: True)


@pytest.mark.usefixtures("access")
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(tmp_path, name):
    array = random_array(DTYPES[name])
    save_checkpoint(tmp_path / "a.safetensors", {"a": array})
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    assert checkpoint.dtype("a") == DTYPES[name]
    assert checkpoint["a"].dtype == DTYPES[name]
    assert checkpoint["a"].tobytes() == array.tobytes()


@pytest.mark.usefixtures("access")
def test_what_the_library_wrote_is_read(tmp_path):
    tensors = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), np.int64),
        "odd": np.array([True, False, True]),
    }
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint(str(tmp_path / "a.safetensors"))
    assert checkpoint.names == list(checkpoint) == ["empty", "matrix", "odd", "scalar"]
    assert len(checkpoint) == 4
    assert "matrix" in checkpoint
    assert "Matrix" not in checkpoint
    assert checkpoint.metadata == {"format": "pt"}
    assert checkpoint.paths == (tmp_path / "a.safetensors",)
    for name, array in tensors.items():
        assert checkpoint.shape(name) == array.shape
        np.testing.assert_array_equal(checkpoint[name], array, strict=True)


@pytest.mark.usefixtures("access")
def test_what_zoo_wrote_is_read_by_the_library(tmp_path):
    tensors = {"a": random_array(np.dtype(np.float32)), "s": np.array(1, np.int8)}
    save_checkpoint(tmp_path / "a.safetensors", tensors, {"k": "v"})
    read = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    with safetensors.safe_open(tmp_path / "a.safetensors", "numpy") as opened:
        assert opened.metadata() == {"k": "v"}


@pytest.mark.usefixtures("access")
def test_arrays_cannot_be_written(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"a": np.zeros(3)})
    array = open_checkpoint(tmp_path / "a.safetensors")["a"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_arrays_view_the_file_and_outlive_the_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"a": np.zeros(3), "b": np.ones(3)})
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    array = checkpoint["a"]
    assert not array.flags.owndata
    assert array.base is checkpoint["b"].base
    with (tmp_path / "a.safetensors").open("r+b") as file:  # a view sees what the file becomes
        file.seek(-6 * 8, os.SEEK_END)
        file.write(np.full(3, 5.0).tobytes())
    del checkpoint
    np.testing.assert_array_equal(array, np.full(3, 5.0))


def test_opening_reads_no_tensor(tmp_path):
    """A file of 64 GB, almost all of it a hole, is opened and one tensor of it is used."""
    size, path = 1 << 36, tmp_path / "big.safetensors"
    header = json.dumps({"big": entry([size], 0, size, "U8"), "one": entry([1], size, size + 4)})
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.seek(size, os.SEEK_CUR)
        file.write(np.float32(7).tobytes())
    checkpoint = open_checkpoint(path)
    assert checkpoint.shape("big") == (size,)
    assert checkpoint["one"] == 7


def test_data_that_is_not_aligned_is_copied(tmp_path):
    header = {"b": entry([1], 0, 1, "U8"), "f": entry([2], 1, 9)}
    path = written(tmp_path / "a.safetensors", header, b"\1" + np.float32([2, 3]).tobytes())
    array = open_checkpoint(path)["f"]
    assert array.flags.aligned
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, np.float32([2, 3]))


def test_shards_are_one_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "1.safetensors", {"a": np.zeros(1)}, {"k": "1", "x": "1"})
    save_checkpoint(tmp_path / "2.safetensors", {"b": np.ones(1)}, {"k": "2", "y": "2"})
    checkpoint = open_checkpoint([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert checkpoint.names == ["a", "b"]
    assert checkpoint["b"] == 1
    assert checkpoint.metadata == {"k": "1", "x": "1", "y": "2"}


def test_shards_that_hold_the_same_tensor_are_an_error(tmp_path):
    for name in "12":
        save_checkpoint(tmp_path / f"{name}.safetensors", {"a": np.zeros(1)})
    with pytest.raises(FileFormatError, match=r"both hold 'a'.*not shards"):
        open_checkpoint([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])


def test_a_wrong_name_gives_the_nearest(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", {"layer1.weight": np.zeros(1)})
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(KeyError, match=r"Did you mean 'layer1\.weight'"):
        checkpoint["layer1.weigth"]
    assert checkpoint.get("nothing") is None


# Bad input

GOOD = {"a": entry([2], 0, 8)}
BAD_HEADERS = {
    "giant": ((10**9).to_bytes(8, "little") + b"{}" + bytes(64), "header declares 1000000000"),
    "beyond": ((2**64 - 1).to_bytes(8, "little") + b"{" + bytes(9), "damaged or truncated"),
    "cut header": ((100).to_bytes(8, "little") + b'{"a":', "declares 100 bytes, and 5 follow"),
}
BAD_FILES = {
    "cut data": (GOOD, bytes(7), "damaged or truncated: the 7 bytes of data"),
    "more data": (GOOD, bytes(9), "the 9 bytes of data"),
    "overlap": ({**GOOD, "b": entry([2], 4, 12)}, bytes(12), "invalid offset for tensor `b`"),
    "hole": ({**GOOD, "b": entry([2], 12, 20)}, bytes(20), "invalid offset for tensor `b`"),
    "reversed": ({"a": entry([2], 8, 0)}, bytes(8), "invalid offset"),
    "wrong shape": ({"a": entry([3], 0, 8)}, bytes(8), "invalid shape"),
    "negative": ({"a": entry([-2], 0, 8)}, bytes(8), "integer `-2`"),
    "overflow": ({"a": entry([2**40, 2**40], 0, 8)}, bytes(8), "overflow"),
    "metadata": ({"__metadata__": {"k": 1}, **GOOD}, bytes(8), "expected a string"),
    "no JSON": (b'{"a":      ', b"", "invalid JSON"),
    "no utf-8": (b'{"\xff":1}', b"", "UTF-8"),
}


@pytest.mark.parametrize("kind", BAD_HEADERS)
def test_a_bad_header_length_is_named(tmp_path, kind):
    content, message = BAD_HEADERS[kind]
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        open_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_header_is_named(tmp_path, kind):
    header, data, message = BAD_FILES[kind]
    path = written(tmp_path / "a.safetensors", header, data)
    with pytest.raises(FileFormatError, match=message) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "size"), [("F8_E4M3", 8), ("F8_E5M2", 8), ("F4", 4), ("Q4_0", 8)]
)
def test_an_unreadable_dtype_is_named_with_its_tensor(tmp_path, dtype, size):
    header = {**GOOD, "layer.weight": entry([8], 8, 8 + size, dtype)}
    path = written(tmp_path / "a.safetensors", header, bytes(8 + size))
    with pytest.raises(FileFormatError, match=rf"1 tensors .*'layer\.weight' \({dtype}\).*BF16"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"\n  <HTML lang='en'>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}", "a pickle"),
        (b"PK\x03\x04" + bytes(40), "a zip archive, as PyTorch"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
        (b'{"architecture": "resnet50"}', "a JSON text"),
        (b"GGUF" + bytes(40), "a GGUF file"),
        (b"hello world, hello", r"starts with b'hello world, hel'"),
        (b"abc", r"starts with b'abc'"),
    ],
)
def test_another_format_is_called_by_its_name(tmp_path, content, message):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        open_checkpoint(tmp_path / "a.safetensors")


def test_no_file(tmp_path):
    with pytest.raises(NotFoundError, match=r"No file .*a\.safetensors"):
        open_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(FileFormatError, match="is a folder"):
        open_checkpoint(tmp_path)


# Writing


def test_arrays_of_any_layout_are_written_right(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    tensors = {
        "transposed": base.T,
        "strided": base[:, ::2, 1:],
        "reversed": base[::-1],
        "big endian": base.astype(">f4"),
        "bfloat16": base.astype(ml_dtypes.bfloat16).T,
        "scalar": np.float64(3),
    }
    save_checkpoint(tmp_path / "a.safetensors", tensors)
    checkpoint = open_checkpoint(tmp_path / "a.safetensors")
    for name, array in tensors.items():
        np.testing.assert_array_equal(checkpoint[name], array)
        assert checkpoint[name].shape == np.shape(array)


@pytest.mark.parametrize("array", [np.array(["text"]), np.zeros(2, np.complex128)])
def test_an_unknown_dtype_is_not_written(tmp_path, array):
    with pytest.raises(FileFormatError, match=rf"'a' \({array.dtype.name}\)"):
        save_checkpoint(tmp_path / "a.safetensors", {"a": array})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_the_umask_gives_the_mode(tmp_path, mask):
    before = os.umask(mask)
    try:
        save_checkpoint(tmp_path / "a.safetensors", {"a": np.zeros(1)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o666 & ~mask


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"a": np.zeros(3)})
    old = open_checkpoint(path)
    save_checkpoint(path, {"a": np.ones(3)})
    np.testing.assert_array_equal(old["a"], np.zeros(3))  # whoever has it open keeps what he has
    np.testing.assert_array_equal(open_checkpoint(path)["a"], np.ones(3))
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import numpy as np
from zoo.weights.files import save_checkpoint
save_checkpoint(sys.argv[1], {"a": np.zeros(3)})
fill_the_disk(100_000)
save_checkpoint(sys.argv[1], {"a": np.ones(100_000)})
"""


def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    assert run_python(FULL_DISK, path).error == "DiskError"
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(open_checkpoint(path)["a"], np.zeros(3))


SAVE = """
import numpy as np
from zoo.weights.files import save_checkpoint
lose_rights()
save_checkpoint(sys.argv[1] + "/new.safetensors", {"a": np.ones(3)})
"""
OPEN = """
from zoo.weights.files import open_checkpoint
lose_rights()
open_checkpoint(sys.argv[1])
"""


def test_a_folder_that_may_not_be_written(tmp_path):
    with read_only(tmp_path):
        assert run_python(SAVE, tmp_path).error == "DiskError"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_not_be_read(tmp_path):
    save_checkpoint(tmp_path / "secret", {"a": np.zeros(3)})
    (tmp_path / "secret").chmod(0)
    assert run_python(OPEN, tmp_path / "secret").error == "AccessError"


# Network file systems


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("ext4", False), ("tmpfs", False), ("nfs4", True), ("cifs", True), ("fuse.sshfs", True)],
)
def test_network_file_systems_are_told_by_the_table_of_mounts(monkeypatch, kind, remote):
    table = f"""\
/dev/vda / ext4 rw,relatime 0 0
server:/x /data nfs rw 0 0
thing /data/with\\040space {kind} rw 0 0
"""
    monkeypatch.setattr(files.Path, "read_text", lambda self, **options: table)
    assert files._is_remote(files.Path("/data/with space/a")) is remote
    assert files._is_remote(files.Path("/data/other")) is True
    assert files._is_remote(files.Path("/home/a")) is False


def test_without_a_table_of_mounts_files_are_local(monkeypatch):
    def fail(self, **options):
        raise FileNotFoundError

    monkeypatch.setattr(files.Path, "read_text", fail)
    assert files._is_remote(files.Path("/data")) is False
