"""`zoo explain`: the picture, the table and the JSON."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from zoo.cli.verbs.explain import MOST
from zoo.preprocessing.spec import ImageSpec
from zoo.tasks.explaining import seen_box

PHOTOS = load_sample_images().images  # uint8 [427, 640, 3]
DIGIT = "resnet_mini.digits"


@pytest.fixture
def photos(tmp_path):
    """A folder with two photographs, the second lying on its side, one broken, and a text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(PHOTOS[0]).save(folder / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PHOTOS[1]).save(folder / "b.jpg", exif=exif)
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no picture, by its name")
    return folder


def entry(model, path, **options):
    with Image.open(path) as file:
        picture = ImageOps.exif_transpose(file)
    (found,) = model.explain(picture, **options)
    box = seen_box(model.preprocess.spec, *picture.size)
    y, x = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    height, width = found.heatmap.shape
    peak = [
        box[0] + (x + 0.5) * (box[2] - box[0]) / width,
        box[1] + (y + 0.5) * (box[3] - box[1]) / height,
    ]
    facts = {k: getattr(found, k) for k in ("method", "label", "index")}
    return {"image": str(path), **facts, "box": list(box), "peak": peak}, found.score


def check(data, model, path, **options):
    expected, score = entry(model, path, **options)
    assert data.pop("score") == pytest.approx(score, rel=1e-4)
    assert data.pop("peak") == pytest.approx(expected.pop("peak"), abs=1e-6)
    assert data == expected


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def test_json_of_a_folder(cli, tiny, photos):
    pytest.importorskip("matplotlib")
    folder, model = tiny
    result = cli("explain", folder, photos, "--out", "heat.png", "--json", code=1)
    first, second = json.loads(result.stdout)
    check(first, model, photos / "a.png")
    check(second, model, photos / "b.jpg")
    assert second["box"][3] > 427  # upright: higher than it is wide
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Skipped: The image, '{photos / 'broken.png'}', cannot be decoded")
    assert size_of("heat.png")[0] == 1080


def test_a_table_and_a_row_for_each_image(cli, tiny, photos):
    pytest.importorskip("matplotlib")
    folder, model = tiny
    one = cli("explain", folder, photos / "a.png", "--out", "one.png", "--target", "owl")
    (found,) = model.explain(PHOTOS[0], target="owl")
    columns, row, empty, last = one.stdout.splitlines()
    assert columns.split() == ["image", "method", "score", "index", "label"]
    score = f"{100 * found.score:.2f}"
    assert row.split() == [str(photos / "a.png"), "grad-cam", score, "%", "2", "owl"]
    assert (empty, last) == ("", "one.png: 1 image")
    two = cli("explain", folder, photos / "a.png", photos / "a.png", "--out", "two.png")
    assert two.stdout.endswith("\n\ntwo.png: 2 images\n")
    width, height = size_of("one.png")
    assert size_of("two.png") == pytest.approx((width, 2 * height), abs=2)


def test_a_class_by_its_index_or_a_label_that_is_a_number(cli, tiny):
    pytest.importorskip("matplotlib")
    Image.fromarray(PHOTOS[0]).save("a.png")
    for target, label in (("1", "dog"), ("owl", "owl")):
        result = cli("explain", tiny[0], "a.png", "--out", "o.png", "--json", "--target", target)
        assert json.loads(result.stdout)[0]["label"] == label


def test_a_transformer_and_a_vector_picture(cli, tmp_path, photos):
    pytest.importorskip("matplotlib")
    import zoo

    model = zoo.load("test_vit", pretrained=False, depth=1)
    zoo.save(model, tmp_path / "vit")
    name = "heat $x^{ $.svg"
    arguments = ["explain", tmp_path / "vit", photos / "a.png", "--out", name, "--json"]
    check(json.loads(cli(*arguments).stdout)[0], model, photos / "a.png")
    assert "attention-rollout" in re.sub(r"\s+", " ", Path(name).read_text())


def test_the_picture_shows_the_digit_and_its_heat(cli):
    """The left part of the figure is the digit itself, the right one has colours."""
    pytest.importorskip("matplotlib")
    digit = np.zeros((8, 8), np.uint8)
    digit[:, 3:5] = 255
    Image.fromarray(digit).save("one $.png")
    result = cli("explain", DIGIT, "one $.png", "--out", "heat.png", "--json")
    (data,) = json.loads(result.stdout)
    assert (data["label"], data["box"]) == ("1", [0, 0, 8, 8])
    assert all(0 <= place <= 8 for place in data["peak"])
    with Image.open("heat.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    left, right = pixels[:, :470], pixels[:, 540:]  # the bar takes some of the right half
    coloured = [np.ptp(part, axis=-1) > 60 for part in (left, right)]
    assert coloured[0].mean() == 0
    assert coloured[1].mean() > 0.3
    middle = left[left.shape[0] // 2, 30:, 0]  # less the figure's own edge
    white = np.flatnonzero(middle == 255)
    assert np.ptp(white) == pytest.approx(490 / 4, rel=0.1)


def test_the_heat_lies_over_what_was_seen():
    pytest.importorskip("matplotlib")
    from zoo.cli.plots import HeatRow, heat_figure

    spec = ImageSpec(input_size=(64, 64))
    heat = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    box = seen_box(spec, 640, 427)
    pixels = np.full((427, 640, 3), 0.5, np.float32)
    row = HeatRow(pixels=pixels, size=(640, 427), box=box, heatmap=heat, title="a $1 title " * 20)
    left, right = heat_figure([row]).axes[:2]
    (drawn,), (grey, over) = left.images, right.images
    np.testing.assert_array_equal(drawn.get_array(), pixels)
    assert drawn.get_extent() == grey.get_extent() == [0, 640, 427, 0]
    assert over.get_extent() == [box[0], box[2], box[3], box[1]]
    assert (right.get_xlim(), right.get_ylim()) == ((0, 640), (427, 0))
    tones = grey.get_array()[..., 0]
    seen = np.zeros((427, 640), bool)
    seen[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = True
    assert np.ptp(tones[seen]) == np.ptp(tones[~seen]) == 0
    assert tones[~seen][0] > tones[seen][0] + 0.1
    colours = over.get_array()
    assert colours.shape == (64, 64, 4)
    assert not np.allclose(colours[0, 0], colours[-1, -1], atol=0.2)


def test_a_large_picture_is_drawn_smaller(cli, tiny):
    pytest.importorskip("matplotlib")
    Image.fromarray(np.tile(PHOTOS[0], (4, 4, 1))).save("large.png")
    result = cli("explain", tiny[0], "large.png", "--out", "heat.png", "--json")
    left, top, right, bottom = json.loads(result.stdout)[0]["box"]
    assert 0 < left < right < 2560
    assert 0 < top < bottom < 1708
    assert size_of("heat.png")[0] == 1080


def test_without_matplotlib(cli, tiny, photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("explain", tiny[0], photos / "a.png", "--out", "heat.png", code=1)
    assert "needs matplotlib, which is not installed: `pip install matplotlib`" in result.stderr
    assert result.stdout == ""
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([], "Missing option '--out'"),
        (["--out", "heat.exe"], "heat.exe names no format of a picture; its suffix should be"),
        (["--out", "heat"], "heat names no format of a picture"),
        (["--out", "nowhere/heat.png"], "is no file in a folder that is there and may be written"),
        (["--out", "."], "is a directory"),
    ],
)
def test_places_that_cannot_be_written(cli, tiny, photos, out, message):
    pytest.importorskip("matplotlib")
    result = cli("explain", tiny[0], photos / "a.png", *out, code=2)
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "cow"], "target='cow' is no label of the model's 3 classes"),
        (["--target", "dogs"], "Did you mean 'dog'"),
        (["--target", "3"], "target=3; the classes are 0 to 2"),
        (["--method", "gradcam"], "Did you mean 'grad-cam'"),
        (["--method", "attention-rollout"], "'grad-cam' is."),
    ],
)
def test_methods_and_classes_that_are_none(cli, tiny, photos, options, message):
    pytest.importorskip("matplotlib")
    result = cli("explain", tiny[0], photos, "--out", "heat.png", *options, code=1)
    assert message in result.stderr.splitlines()[-1]
    assert result.stdout == ""
    assert list(Path().iterdir()) == []


def test_nothing_to_draw(cli, tiny, tmp_path, photos):
    pytest.importorskip("matplotlib")
    (tmp_path / "empty").mkdir()
    options = ["--out", "heat.png", "--json"]
    empty = cli("explain", tiny[0], tmp_path / "empty", *options, code=1)
    broken = cli("explain", tiny[0], photos / "broken.png", *options, code=1)
    absent = cli("explain", tiny[0], "absent.png", *options, code=1)
    assert {empty.stdout, broken.stdout, absent.stdout} == {"[]\n"}
    assert "has no image in it" in empty.stderr
    assert "cannot be decoded" in broken.stderr
    assert absent.stderr == "Skipped: absent.png is not there.\n"
    assert list(Path().iterdir()) == []


def test_too_many_for_a_figure(cli, tiny, photos):
    pytest.importorskip("matplotlib")
    pictures = [photos / "a.png"] * (MOST + 1)
    result = cli("explain", tiny[0], *pictures, "--out", "heat.png", code=1)
    assert f"{MOST + 1} images were given; a figure has {MOST} at most" in result.stderr


def test_models_that_cannot_be_explained(cli, photos):
    pytest.importorskip("matplotlib")
    result = cli("explain", "lstm_mini.digits", photos / "a.png", "--out", "heat.png", code=1)
    assert "does sequence-classification, which has no verb 'explain'" in result.stderr
