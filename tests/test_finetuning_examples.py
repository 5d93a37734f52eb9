"""Examples from folders, tables and arrays; what is wrong with them is found before training."""

import csv
import json
import os
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.errors import AccessError, InputError, NotFoundError, OptionError
from zoo.finetuning import examples as module
from zoo.finetuning.examples import Examples, read_examples, readable, split
from zoo.finetuning.sources import image_suffixes
from zoo.loading.pulling import BUNDLED
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.sequence import SequencePreprocessor
from zoo.preprocessing.spec import ImageSpec, SequenceSpec

FILES = sorted((BUNDLED / "digits").glob("*.png"))
DIGITS = [path.name[0] for path in FILES]
PNG = FILES[0].read_bytes()


@pytest.fixture
def folder(tmp_path):
    """The bundled digits, in a folder for each class."""
    root = tmp_path / "digits"
    for path in FILES:
        (root / path.name[0]).mkdir(parents=True, exist_ok=True)
        (root / path.name[0] / path.name).write_bytes(path.read_bytes())
    return root


def images(source, **options):
    return read_examples(source, kind="image", **options)


def sequences(source, **options):
    return read_examples(source, kind="sequence", **options)


def made(counts, classes=None):
    """Examples that are mere numbers."""
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Examples(
        inputs=np.arange(len(labels))[:, None],
        labels=labels,
        classes=tuple(classes or map(str, range(len(counts)))),
        names=tuple(f"example {k}" for k in range(len(labels))),
    )


def same(one, other):
    return (
        list(one.inputs) == list(other.inputs)
        and one.labels.tolist() == other.labels.tolist()
        and one.classes == other.classes
    )


# ---------------------------------------------------------------- folders


def test_a_folder_of_class_folders(folder):
    found = images(folder)
    assert found.classes == tuple("0123456789")
    assert found.labels.dtype == np.int32
    assert found.labels.tolist() == [int(digit) for digit in DIGITS]
    assert found.inputs == [str(folder / p.name[0] / p.name) for p in FILES]
    assert list(found.names) == found.inputs
    assert found.skipped == ()
    assert same(images(str(folder)), found)


def test_what_counts_in_a_class_folder(folder):
    deep = folder / "3" / "b" / "a"
    deep.mkdir(parents=True)
    for name in ("x.JPG", "y.WebP", "z.tif"):
        (deep / name).write_bytes(PNG)
    for name in ("notes.txt", "more.json"):
        (deep / name).write_text("no image")
    hidden = [folder / "3" / ".x.png", folder / ".cache" / "x.png", deep / ".b" / "x.png"]
    for path in (*hidden, folder / ".DS_Store"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PNG)
    (folder / "README.md").write_text("about")
    found = images(folder)
    inside = [name for name, label in zip(found.names, found.labels, strict=True) if label == 3]
    assert inside == sorted(
        [*(str(deep / n) for n in ("x.JPG", "y.WebP", "z.tif")), *map(str, folder.glob("3/3*.png"))]
    )
    assert dict(found.skipped) == {
        str(folder / "README.md"): "lies in no class folder",
        str(deep / "more.json"): "is of another kind, by its suffix",
        str(deep / "notes.txt"): "is of another kind, by its suffix",
    }


def test_suffixes_are_those_that_pillow_opens():
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= image_suffixes()
    assert not {".txt", ".csv", ".json", ".npy", ".zip", ".pdf", ""} & image_suffixes()


def test_links_to_folders_are_followed_once(folder):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").write_bytes(PNG)
    (folder / "3" / "more").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder / "3")
    found = images(folder)
    assert found.counts()[3] == 5
    assert str(folder / "3" / "more" / "x.png") in found.names


def test_class_folders_need_not_be_all_of_the_classes(folder):
    found = images(folder, classes=["x", *"9876543210"])
    assert found.classes == ("x", *"9876543210")
    assert found.counts().tolist() == [0] + [4] * 10
    assert found.labels[0] == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "empty").mkdir(), "class folder .*empty has no example.*0 other files"),
        (lambda f: [p.unlink() for p in f.glob("4/*")], "class folder .*4 has no example"),
        (lambda f: [p.rename(p.with_suffix(".txt")) for p in f.glob("4/*")], "4 other files"),
    ],
)
def test_an_empty_class_folder_is_an_error(folder, change, message):
    change(folder)
    for classes in (None, tuple("0123456789")):
        with pytest.raises(InputError, match=message):
            images(folder, classes=classes)


def test_folders_that_hold_no_classes(folder, tmp_path):
    with pytest.raises(InputError, match=r"digits/3 has no class folders; 4 files lie in it"):
        images(folder / "3")
    parts = tmp_path / "parts"
    for name in ("train", "Val"):
        (parts / name / "3").mkdir(parents=True)
        (parts / name / "3" / "x.png").write_bytes(PNG)
    with pytest.raises(InputError, match="'Val', 'train', which are no classes but parts"):
        images(parts)
    (tmp_path / "one" / "cat").mkdir(parents=True)
    (tmp_path / "one" / "cat" / "x.png").write_bytes(PNG)
    with pytest.raises(InputError, match="All 1 examples are of one class, 'cat'"):
        images(tmp_path / "one")
    assert len(images(tmp_path / "one", classes=["cat", "dog"])) == 1


def test_paths_that_are_not_there(folder):
    with pytest.raises(NotFoundError, match=r"digit is not there. Did you mean 'digits'"):
        images(folder.parent / "digit")
    with pytest.raises(NotFoundError, match=r"folder of files for each class, a \.csv"):
        images("/no/such/folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_may_not_be_listed(folder):
    (folder / "5").chmod(0)
    with pytest.raises(AccessError, match="5 cannot be listed"):
        images(folder)


def test_folders_of_sequences(tmp_path):
    rows = {name: np.arange(6.0).reshape(3, 2) + k for k, name in enumerate("abcd")}
    for name in "xy":
        (tmp_path / name).mkdir()
    np.save(tmp_path / "x" / "a.npy", rows["a"])
    np.savetxt(tmp_path / "y" / "b.csv", rows["b"], delimiter=",")
    np.savetxt(tmp_path / "x" / "c.txt", rows["c"])
    np.save(tmp_path / "y" / "d.npy", rows["d"])
    (tmp_path / "x" / "picture.png").write_bytes(PNG)
    found = sequences(tmp_path)
    assert found.classes == ("x", "y")
    assert [Path(name).name for name in found.names] == ["a.npy", "c.txt", "b.csv", "d.npy"]
    for row, name in zip(found.inputs, "acbd", strict=True):
        assert np.array_equal(row, rows[name])
    assert [Path(name).name for name, _ in found.skipped] == ["picture.png"]


def test_folders_of_texts(tmp_path):
    for name, text in (("good/a.txt", "very nice\n"), ("bad/b.txt", "dreadful"), ("bad/c.csv", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = sequences(tmp_path, text=True)
    assert found.inputs == ["dreadful", "very nice\n"]
    assert found.classes == ("bad", "good")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("b.npy", b"no array", "cannot be read as numbers"),
        ("b.npy", b"", "cannot be read as numbers"),
        ("b.csv", b"1,2\n3,x\n", "could not convert string to float: 'x'"),
        ("b.csv", b"1,2\n3\n", "cannot be read as numbers"),
        ("b.txt", b"\xff\xfe1 2", "cannot be read as numbers"),
    ],
)
def test_files_of_sequences_that_cannot_be_read(tmp_path, name, content, reason):
    for label in "xy":
        (tmp_path / label).mkdir()
        np.save(tmp_path / label / "a.npy", np.ones((3, 2)))
    (tmp_path / "y" / name).write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 3 examples cannot be read"):
        found = sequences(tmp_path)
    assert len(found) == 2
    assert found.skipped[0][0] == str(tmp_path / "y" / name)
    assert reason in found.skipped[0][1]
    with pytest.raises(InputError, match=re.escape(reason)):
        sequences(tmp_path, strict=True)


def test_pickled_arrays_are_never_read(tmp_path):
    for label in "xy":
        (tmp_path / label).mkdir()
        np.save(tmp_path / label / "a.npy", np.ones((3, 2)))
    np.save(tmp_path / "y" / "b.npy", np.array([{"any": "object"}]), allow_pickle=True)
    with pytest.raises(InputError, match="allow_pickle=False"):
        sequences(tmp_path, strict=True)


# ---------------------------------------------------------------- tables


def write_csv(path, rows, delimiter=","):
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


ROWS = [(f"{p.name[0]}/{p.name}", p.name[0]) for p in FILES]


@pytest.mark.parametrize("column", ["path", "image", "file", "photograph"])
def test_tables_of_images(folder, column):
    named = {"input_column": column} if column == "photograph" else {}
    expected = images(folder)
    for name, delimiter in (("t.csv", ","), ("t.TSV", "\t")):
        table = write_csv(folder / name, [(column, "label"), *ROWS], delimiter)
        found = images(table, **named)
        assert same(found, expected)
        assert found.names[16] == f"row 18 of {name}"
    lines = folder / "t.jsonl"
    lines.write_text("\n".join(json.dumps({column: p, "label": k}) for p, k in ROWS) + "\n\n")
    assert same(images(lines, **named), expected)
    assert images(lines, **named).names[16] == "line 17 of t.jsonl"
    absolute = [(str(folder / p), k) for p, k in ROWS]
    assert same(images(write_csv(folder / "a.csv", [(column, "label"), *absolute]), **named), found)


def test_a_table_may_name_its_columns_otherwise_and_have_more(folder):
    rows = [(k, "x,y", p) for p, k in ROWS]
    table = write_csv(folder / "t.csv", [("digit", "notes", " file "), *rows])
    assert same(images(table, label_column="digit"), images(folder))
    with_bom = folder / "bom.csv"
    with_bom.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert same(images(with_bom, label_column="digit"), images(folder))


def test_tables_of_sequences(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    table = write_csv(tmp_path / "t.csv", [("path", "label"), ("a.npy", "x"), ("a.npy", "y")])
    assert np.array_equal(sequences(table).inputs[1], np.ones((3, 2)))
    rows = [("sequence", "label"), ("1 2 3", "x"), ("[[1, 2], [3, 4.5]]", "y")]
    found = sequences(write_csv(tmp_path / "t.csv", rows))
    assert [item.tolist() for item in found.inputs] == [[1, 2, 3], [[1, 2], [3, 4.5]]]
    lines = [{"input": [[1, 2]], "label": 0}, {"input": [[3, 4]], "label": 1}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = sequences(tmp_path / "t.jsonl")
    assert [item.tolist() for item in found.inputs] == [[[1, 2]], [[3, 4]]]
    assert found.classes == ("0", "1")


def test_tables_of_texts(tmp_path):
    rows = [("text", "label"), ('a "good" one,\nreally', "pos"), ("bad", "neg")]
    found = sequences(write_csv(tmp_path / "t.csv", rows), text=True)
    assert found.inputs == ['a "good" one,\nreally', "bad"]
    assert found.labels.tolist() == [1, 0]
    (tmp_path / "a.txt").write_text("from a file")
    rows = [("file", "label"), ("a.txt", "pos"), ("a.txt", "neg")]
    assert sequences(write_csv(tmp_path / "t.csv", rows), text=True).inputs == ["from a file"] * 2


HEADER = "path,label\n"


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("t.csv", "", {}, "no example in .*t.csv"),
        ("t.csv", HEADER, {}, "no example in .*t.csv"),
        ("t.csv", "picture,label\na.png,x\n", {}, "no column of inputs.*'picture', 'label'"),
        ("t.csv", "path,labels\na.png,x\n", {}, "no column 'label'. Did you mean 'labels'"),
        ("t.csv", "a.png;x\nb.png;y\n", {}, "no column of inputs.*'a.png;x'"),
        (
            "t.csv",
            HEADER + "a.png,x\n",
            {"input_column": "pth"},
            "no column 'pth'. Did you mean 'path'",
        ),
        ("t.csv", HEADER + "a.png,x\nb.png\n", {}, "row 3 of t.csv has 1 cells.* 2 columns"),
        ("t.csv", HEADER + "a.png,x,y\n", {}, "row 2 of t.csv has 3 cells"),
        ("t.csv", HEADER + ",x\n", {}, "row 2 of t.csv has '' for 'path'"),
        ("t.csv", HEADER + "a.png,\n", {}, "label of row 2 of t.csv is missing"),
        ("t.csv", PNG, {}, "no text in UTF-8 .*no .csv file"),
        ("t.csv", HEADER + f"{'x' * 200_000},y\n", {}, "cannot be read as .csv: field larger"),
        ("t.jsonl", '{"path": "a.png", "label": "x"}\nx,y\n', {}, "line 2 of t.jsonl is no JSON"),
        ("t.jsonl", '["a.png", "x"]\n', {}, "line 1 of t.jsonl is a list of 2; an object"),
        (
            "t.jsonl",
            '{"path": "a", "label": "x"}\n{"path": "b"}',
            {},
            "line 2 of t.jsonl has no 'label'",
        ),
        (
            "t.jsonl",
            '{"path": "a", "label": 1}\n{"path": "b", "label": NaN}',
            {},
            r"line 2 of t.jsonl is missing \(nan\)",
        ),
        ("t.jsonl", '{"path": 7, "label": 1}', {}, "has 7 for 'path'; a path was expected"),
        ("t.xlsx", "", {}, "is a file, and none of .csv, .tsv, .jsonl"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, name, content, options, message):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        images(tmp_path / name, **options)


def test_cells_that_are_no_numbers(tmp_path):
    for cell in ("1 2 x", "[[1, 2], [3]]", "[1,"):
        table = write_csv(tmp_path / "t.csv", [("input", "label"), (cell, "a"), ("1", "b")])
        with pytest.raises(InputError, match=r"row 2 of t\.csv has .* which are no numbers"):
            sequences(table)


# ---------------------------------------------------------------- arrays and pairs


def test_pairs_of_inputs_and_labels(folder):
    expected = images(folder)
    paths = expected.inputs
    assert same(images((paths, DIGITS)), expected)
    assert same(images(([*map(type(folder), paths)], np.array(DIGITS))), expected)
    assert same(images(list(zip(paths, DIGITS, strict=True))), expected)
    assert same(images([list(pair) for pair in zip(paths, DIGITS, strict=True)]), expected)
    numbers = [int(digit) for digit in DIGITS]
    assert same(images((np.array(paths), np.array(numbers, np.uint8)[:, None])), expected)
    assert images((paths, DIGITS)).names == tuple(paths)


def test_pairs_of_arrays():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2])
    found = images((pixels, labels))
    assert found.inputs is pixels
    assert found.classes == ("0", "1", "2")
    assert found.names[5] == "example 5"
    grey = images((list(pixels[..., 0]), labels))
    assert grey.inputs[2].shape == (9, 9)
    pictures = [Image.fromarray(row) for row in pixels]
    assert images((pictures, labels)).inputs == pictures
    assert images(([PNG] * 6, labels)).inputs == [PNG] * 6
    rows = np.random.default_rng(0).normal(size=(6, 4, 2))
    assert sequences((rows, labels)).inputs is rows
    nested = sequences(([[[1, 2], [3, 4]], [[5, 6]]], [0, 1]))
    assert [item.tolist() for item in nested.inputs] == [[[1, 2], [3, 4]], [[5, 6]]]
    tokens = sequences(([["a", "b"], "ab"], [0, 1]), text=True)
    assert tokens.inputs == [["a", "b"], "ab"]


def test_what_has_an_array_is_taken():
    import tensorflow as tf

    pixels, labels = tf.zeros([4, 5, 5, 3], tf.uint8), tf.constant([0, 1, 0, 1])
    found = images((pixels, labels))
    assert found.inputs.shape == (4, 5, 5, 3)
    assert found.labels.tolist() == [0, 1, 0, 1]
    assert isinstance(images(([*pixels], labels)).inputs[0], np.ndarray)


PATHS = ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((PATHS, ["x", "y"]), "3 inputs and 2 labels"),
        (([], []), "no example in a tuple of 2"),
        ([], "no example in a list of 0"),
        (7, "Examples cannot be 7"),
        ((PATHS, ["x"], ["y"]), "Examples cannot be a tuple of 3"),
        ({"a": 1}, "Examples cannot be a dict of 1"),
        ([PATHS, ["x", "y", "x"]], r"Item 0 .* tuple: \(inputs, labels\)"),
        (["a.png", "b.png"], "Item 0 of the list is 'a.png'; a pair"),
        (("a.png", ["x"]), "The inputs are 'a.png'; a list"),
        ((PATHS, "xyz"), "The labels are 'xyz'; a list"),
        ((PATHS, {1, 2, 3}), "The labels are a set of 3"),
        (({"a.png"}, ["x"]), "The inputs are .*; a list"),
        ((PATHS, np.eye(3)), r"labels are an array \[3, 3\].*argmax"),
        ((PATHS, [0.0, 1.0, 0.0]), r"label of a\.png is 0\.0, of type float.*astype"),
        ((PATHS, ["x", "y", None]), r"label of c.png is missing \(None\)"),
        ((PATHS, ["x", "y", float("nan")]), r"label of c.png is missing \(nan\)"),
        ((PATHS, np.array([0, 1, np.nan])), r"label of c\.png is missing \(nan\)"),
        ((PATHS, ["x", 1, "y"]), "label of b.png is 1, and the first one 'x'"),
        ((PATHS, [1, 2, 3]), "3 different numbers from 1 to 3, and none is 0"),
        ((PATHS, [0, 1, 10**9]), "none is 2. Number the classes from 0"),
        ((PATHS, [-1, 0, 1]), "from -1 to 1, and none is 0"),
        ((PATHS, ["x", "x", "x"]), "All 3 examples are of one class, 'x'"),
        ((PATHS, [0, 0, 0]), "All 3 examples are of one class, '0'"),
        ((np.zeros((2, 8, 8, 3)), [0, 1]), r"float64 \[2, 8, 8, 3\], values 0 to 0.*astype"),
        ((np.zeros((2, 8, 8, 3), int), [0, 1]), "int64.*uint8 arrays"),
        ((np.zeros((2, 64), np.uint8), [0, 1]), r"uint8 \[2, 64\].*\[n, h, w, 3\]"),
        (([np.zeros((8, 8, 3), np.uint8), np.ones((8, 8, 3))], [0, 1]), "example 1 is float64"),
        (([np.zeros(8, np.uint8)] * 2, [0, 1]), r"example 0 is uint8 \[8\]"),
        (([[[1, 2], [3, 4]]] * 2, [0, 1]), "example 0 is a list of 2. Images are paths"),
    ],
)
def test_what_is_no_source_of_images(source, message):
    with pytest.raises(InputError, match=message):
        images(source)


def test_sequences_that_are_no_arrays():
    with pytest.raises(InputError, match="example 1: It is a list of 2, which makes no array"):
        sequences(([[[1, 2]], [[1, 2], [3]]], [0, 1]), strict=True)
    with pytest.raises(NotFoundError, match=r"a\.npy is not there"):
        sequences((["/no/a.npy", "/no/b.npy"], [0, 1]), strict=True)


# ---------------------------------------------------------------- classes


def test_classes_of_training_hold_for_validation():
    classes = ("daisy", "rose", "tulip")
    found = images((PATHS, ["tulip", "tulip", "daisy"]), classes=classes)
    assert found.classes == classes
    assert found.labels.tolist() == [2, 2, 0]
    places = images((PATHS, [2, 2, 0]), classes=classes)
    assert places.labels.tolist() == [2, 2, 0]
    with pytest.raises(InputError, match=r"b\.png is 'tulp', which is no class. Did you mean 'tul"):
        images((PATHS, ["tulip", "tulp", "daisy"]), classes=classes)
    with pytest.raises(InputError, match=r"b\.png is 3; there are 3 classes, 0 to 2"):
        images((PATHS, [0, 3, 1]), classes=classes)
    with pytest.raises(InputError, match=r"a\.png is -1; there are 3 classes"):
        images((PATHS, [-1, 1, 1]), classes=classes)


def test_places_in_a_csv_are_text(tmp_path):
    table = write_csv(tmp_path / "t.csv", [("path", "label"), ("a", "2"), ("b", "0")])
    assert images(table, classes=("x", "y", "z")).labels.tolist() == [2, 0]
    assert images(table, classes=("2", "1", "0")).labels.tolist() == [0, 2]  # names come first
    assert images(table).classes == ("0", "2")
    with pytest.raises(InputError, match="'2', which is no class"):  # not place 2 of '7', '8', '9'
        images(table, classes=("7", "8", "9"))
    with pytest.raises(InputError, match=r"row 2 of t\.csv is 2; there are 2 classes"):
        images(table, classes=("x", "y"))


def test_a_class_may_have_several_names():
    classes = zoo.load("resnet18", pretrained=False).labels  # those of ImageNet
    names = ["tench", "Tinca tinca", "English springer"]
    found = images((PATHS, names), classes=classes)
    assert found.labels.tolist() == [0, 0, 217]
    with pytest.raises(InputError, match="'crane', the name of 2 classes, 134, 517"):
        images((PATHS, ["tench", "crane", "tench"]), classes=classes)
    # a whole name is that class, even where another class lists it among its names
    assert images((PATHS, ["a", "b", "a"]), classes=("b, a", "a")).labels.tolist() == [1, 0, 1]


# ---------------------------------------------------------------- what examples can do


def test_rows_of_examples(folder):
    found = images(folder)
    for rows in (np.array([5, 2, 2]), slice(3, 9), np.arange(40) % 7 == 0):
        places = np.arange(40)[rows]
        part = found[rows]
        assert part.inputs == [found.inputs[k] for k in places]
        assert part.names == tuple(found.names[k] for k in places)
        assert np.array_equal(part.labels, found.labels[places])
        assert part.classes == found.classes
    assert made([3, 4])[np.array([6, 0])].inputs.tolist() == [[6], [0]]


def test_unequal_numbers_are_no_examples():
    with pytest.raises(InputError, match="2 inputs, 1 labels and 2 names"):
        Examples(inputs=["a", "b"], labels=np.zeros(1, int), classes=("x",), names=("a", "b"))


def test_the_fingerprint_follows_files_contents_and_labels(folder):
    def printed():
        return images(folder).fingerprint()

    first = printed()
    assert first == printed()
    assert re.fullmatch("[0-9a-f]{64}", first)
    path = folder / "3" / FILES[12].name
    status, data = path.stat(), path.read_bytes()
    seen = {first}

    def changed():
        seen.add(printed())
        return len(seen)

    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert changed() == 2
    path.write_bytes(data + b"x")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed() == 3
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert changed() == 3  # as it was
    path.rename(path.with_name("other.png"))
    assert changed() == 4
    path.with_name("other.png").rename(folder / "4" / path.name)
    assert changed() == 5
    (folder / "3").rename(folder / "three")
    assert changed() == 6


def test_the_fingerprint_of_contents():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    labels = [0, 1, 0, 1]
    other = pixels.copy()
    other[3, 4, 5, 2] ^= 1
    palette = Image.fromarray(pixels[0]).convert("P", palette=Image.Palette.ADAPTIVE)
    recolored = palette.copy()
    recolored.putpalette(palette.getpalette()[::-1])
    cases = [
        images((pixels, labels)),
        images((other, labels)),
        images((pixels, [0, 1, 1, 0])),
        images((pixels.reshape(4, 6, 5, 3), labels)),
        images(([PNG] * 4, labels)),
        images(([PNG + b"x"] * 4, labels)),
        images(([palette] * 4, labels)),
        images(([recolored] * 4, labels)),
        images((["/no/file.png"] * 4, labels)),
        images((["https://example.org/a.png"] * 4, labels)),
        sequences((["ab", "c", "d", "e"], labels), text=True),
        sequences((["a", "bc", "d", "e"], labels), text=True),
        sequences(([["a", "b"]] * 4, labels), text=True),
        sequences((pixels[..., 0].astype(float), labels)),
    ]
    prints = [case.fingerprint() for case in cases]
    assert len(set(prints)) == len(prints)
    assert prints[0] == images((list(pixels), labels)).fingerprint()
    assert cases[0][np.array([0, 1])].fingerprint() != prints[0]


def test_imbalance_is_said_from_four_to_one():
    assert made([10, 10]).imbalance() is None
    assert made([39, 10]).imbalance() is None
    said = made([40, 10, 20], ["cat", "dog", "cow"]).imbalance()
    assert "'cat' has 40 examples, 'dog' 10" in said
    assert made([1600, 10]).imbalance()
    assert made([0, 10, 30]).imbalance() is None  # a class without any is not counted


# ---------------------------------------------------------------- readable


def test_readable_keeps_what_preprocessing_reads(folder):
    found = images(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(readable(found), found)
    pixels = np.zeros((4, 5, 5, 3), np.uint8)
    arrays = images((pixels, [0, 1, 0, 1]))
    assert readable(arrays).inputs is pixels
    with Image.open(FILES[0]) as picture:  # one and the same, not decoded yet, for all threads
        assert len(readable(images(([picture] * 40, [0, 1] * 20)))) == 40


def test_unreadable_images_are_left_out_and_named(folder):
    broken = [folder / "2" / FILES[8].name, folder / "6" / "a.jpg", folder / "6" / "b.png"]
    broken[0].write_bytes(broken[0].read_bytes()[:70])
    broken[1].write_bytes(b"")
    broken[2].write_text("no picture")
    (folder / "8" / FILES[32].name).unlink()
    (folder / "8" / FILES[32].name).symlink_to("nowhere.png")
    found = images(folder)
    with pytest.warns(UserWarning, match="4 of 42 examples cannot be read") as caught:
        kept = readable(found)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert all(str(path) in message for path in broken)
    assert "and 1 more" in message
    assert [name for name, _ in kept.skipped] == [
        *map(str, broken),
        str(folder / "8" / FILES[32].name),
    ]
    reasons = [reason for _, reason in kept.skipped]
    for reason, words in zip(
        reasons, ("damaged", "zero bytes", "no image", "not there"), strict=True
    ):
        assert words in reason
    assert len(kept) == 38
    assert not set(kept.names) & {name for name, _ in kept.skipped}
    assert kept.inputs == list(kept.names)
    assert kept.counts().tolist() == [4, 4, 3, 4, 4, 4, 4, 4, 3, 4]
    with pytest.raises(InputError, match=re.escape(f"{broken[0]}: ")):
        readable(found, strict=True)


def test_a_class_that_loses_all_is_an_error(folder):
    for path in (folder / "5").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="'5' has no example that can be read; 4 of 40") as caught:
        readable(images(folder))
    assert "b'broken'" in str(caught.value)


def test_what_pillow_opens_and_preprocessing_refuses_is_unreadable(folder):
    Image.new("F", (8, 8)).save(folder / "0" / "float.tiff")
    Image.new("1", (60_000, 1)).save(folder / "0" / "thread.png")  # 256 high it is a giant
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "0" / "sixteen.png")
    Image.new("LA", (8, 8)).save(folder / "0" / "alpha.png")
    preprocess = ImagePreprocessor(ImageSpec(input_size=(512, 512)))
    with warnings.catch_warnings(record=True) as caught:  # the 16 bits may be told of, too
        warnings.simplefilter("always")
        kept = readable(images(folder), preprocess=preprocess)
    assert [Path(name).name for name, _ in kept.skipped] == ["float.tiff", "thread.png"]
    assert any("2 of 44 examples" in str(w.message) for w in caught)
    assert len(preprocess(list(kept.inputs))) == len(kept)


def test_images_of_other_channels_are_arrays():
    pixels = np.zeros((4, 9, 9, 5), np.uint8)
    found = images((pixels, [0, 1, 0, 1]))
    spec = ImageSpec(input_size=(8, 8), channels=5, mean=(0.5,) * 5, std=(0.5,) * 5)
    assert len(readable(found, preprocess=ImagePreprocessor(spec))) == 4
    with pytest.raises(InputError, match=r"'0', '1' has no example that can be read"):
        readable(found)


def test_readable_sequences():
    numbers = SequencePreprocessor(SequenceSpec(features=2))
    rows = [np.ones((3, 2)), np.ones((3, 3)), np.full((3, 2), np.nan), np.ones((1, 2)), np.eye(2)]
    found = sequences((rows, [0, 1, 0, 1, 0]))
    with pytest.warns(UserWarning, match="2 of 5 examples cannot be read"):
        kept = readable(found, preprocess=numbers)
    assert [name for name, _ in kept.skipped] == ["example 1", "example 2"]
    assert "expected" in kept.skipped[0][1]
    assert "NaN" in kept.skipped[1][1]
    assert readable(found) is found  # nothing says what they go through
    texts = SequencePreprocessor(SequenceSpec(vocabulary=tuple("abc")))
    words = sequences((["abc", "abd", "cab", "b"], [0, 1, 0, 1]), text=True)
    with pytest.warns(UserWarning, match="example 1: The sequence has 'd' as token 2"):
        assert readable(words, preprocess=texts).inputs == ["abc", "cab", "b"]


def test_many_files_are_tried_in_order(folder, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 7)
    paths = [str(FILES[k % 40]) for k in range(100)]
    for k in (3, 50, 99):
        paths[k] = str(folder / f"missing{k}.png")
    found = images((paths, [k % 2 for k in range(100)]))
    with pytest.warns(UserWarning, match="3 of 100"):
        kept = readable(found)
    assert [name for name, _ in kept.skipped] == [paths[k] for k in (3, 50, 99)]
    assert kept.inputs == [path for k, path in enumerate(paths) if k not in (3, 50, 99)]
    with pytest.raises(NotFoundError, match="missing3"):
        readable(found, strict=True)


# ---------------------------------------------------------------- split


@pytest.mark.parametrize("part", [0.05, 0.2, 1 / 3, 0.5, 0.95])
@pytest.mark.parametrize(
    "counts", [[10, 10], [2, 3, 100], [7] * 13, [2] * 9, [1000, 10, 0, 55], [6] * 50]
)
def test_a_split_is_stratified(counts, part):
    data = made(counts)
    training, validation = split(data, part, seed=3)
    rows = [part.inputs[:, 0].tolist() for part in (training, validation)]
    assert sorted(rows[0] + rows[1]) == list(range(sum(counts)))
    assert all(side == sorted(side) for side in rows)
    assert np.array_equal(data.labels[rows[1]], validation.labels)
    held_out = validation.counts()
    for count, held in zip(counts, held_out, strict=True):
        if count:
            assert 1 <= held <= count - 1
            exact = count * part
            assert abs(held - exact) < 1 or held in (1, count - 1)
        else:
            assert held == 0
    if all(1 <= count * part <= count - 1 for count in counts if count):
        assert held_out.sum() == round(sum(counts) * part)


def test_a_split_follows_from_the_seed():
    data = made([30, 40, 50])
    one, again, other = (split(data, 0.2, seed)[1].inputs.ravel() for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    # no class is cut as its neighbour is
    first, second = (split(made([40, 40]), 0.2, 5)[1][slice(8 * k, 8 * k + 8)] for k in range(2))
    assert not np.array_equal(first.inputs + 40, second.inputs)


def test_a_split_keeps_what_was_skipped_once(folder):
    (folder / "0" / "notes.txt").write_text("x")
    training, validation = split(images(folder), 0.25, 0)
    assert len(training.skipped) == 1
    assert validation.skipped == ()
    assert validation.counts().tolist() == [1] * 10
    assert validation.inputs == list(validation.names)


def test_what_cannot_be_split_is_an_error():
    with pytest.raises(InputError, match=r"Class 'b', 'd' has one example.*give validation"):
        split(made([3, 1, 4, 1], "abcd"), 0.2, 0)
    for part in (0, 1, -0.1, 1.5, float("nan")):
        with pytest.raises(OptionError, match="between 0 and 1"):
            split(made([3, 3]), part, 0)
    with pytest.raises(OptionError, match="seed is -1"):
        split(made([3, 3]), 0.2, -1)
