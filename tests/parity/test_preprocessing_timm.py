"""Host and graph preprocessing against timm's own evaluation transform, live, on photographs."""

import functools
import io
from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn.datasets
import tensorflow as tf
from PIL import Image
from reference import timm

from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.spec import ImageSpec

_SKIMAGE = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = [
    *sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg")),
    *(_SKIMAGE / name for name in ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")),
    *(_SKIMAGE / name for name in ("hubble_deep_field.jpg", "retina.jpg", "ihc.png", "camera.png")),
]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
CROP_MODES = ["center", "squash", "border"]
SIZES = [((224, 224), 0.875), ((96, 160), 0.95), ((129, 97), 1.0), ((224, 224), 1.15)]


def reference(image, spec):
    """timm's transform of a picture, channels last."""
    transform = timm.data.create_transform(
        input_size=(3, *spec.input_size),
        is_training=False,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=spec.crop_pct,
        crop_mode=spec.crop_mode,
    )
    return transform(image).numpy().transpose(1, 2, 0)


@functools.cache
def picture(path):
    with Image.open(path) as image:
        return image.convert("RGB")


def assert_graph_agrees(graph, expected, spec):
    """99.9 % of the pixels are the same, and none is more than 1/255 off."""
    off = np.abs(np.asarray(graph) - expected) * np.asarray(spec.std, np.float32) * 255
    assert off.max() < 1.001
    assert np.mean(off.max(axis=-1) < 1e-4) >= 0.999


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("size", "crop_pct"), SIZES)
def test_photographs(crop_mode, interpolation, size, crop_pct):
    spec = ImageSpec(
        input_size=size, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation
    )
    preprocess = ImagePreprocessor(spec)
    # a third each; all of them in every interpolation and mode
    third = SIZES.index((size, crop_pct)) + INTERPOLATIONS.index(interpolation)
    photographs = PHOTOGRAPHS[third % 3 :: 3]
    for path, ours in zip(photographs, preprocess(photographs), strict=True):
        np.testing.assert_array_equal(ours, reference(picture(path), spec), err_msg=path.name)


@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_photographs_in_the_graph(crop_mode, interpolation):
    """From the file's bytes on."""
    spec = ImageSpec(crop_pct=0.9, crop_mode=crop_mode, interpolation=interpolation)
    graph = tf.function(
        ImagePreprocessor(spec).graph.from_bytes, input_signature=[tf.TensorSpec([], tf.string)]
    )
    for path in PHOTOGRAPHS[CROP_MODES.index(crop_mode) :: 3]:
        expected = reference(picture(path), spec)
        assert_graph_agrees(graph(path.read_bytes()), expected, spec)


def _alpha(image):
    return Image.merge("RGBA", (*image.split(), image.convert("L")))


AWKWARD = {
    "grey": lambda image: image.convert("L"),
    "grey and alpha": lambda image: _alpha(image).convert("LA"),
    "one bit": lambda image: image.convert("1"),
    "alpha": _alpha,
    "palette": lambda image: image.quantize(60),
    "CMYK": lambda image: Image.merge("CMYK", (*image.split(), image.convert("L"))),
    "YCbCr": lambda image: image.convert("YCbCr"),
    "one pixel": lambda image: image.resize((1, 1)),
    "a line": lambda image: image.resize((3, 300)),
    "a wide line": lambda image: image.resize((300, 4)),
    "odd": lambda image: image.resize((333, 217)),
    "tall": lambda image: image.resize((90, 700)),
    "small": lambda image: image.resize((31, 40)),
    "of the size": lambda image: image.resize((64, 64)),
}


@pytest.mark.parametrize("form", AWKWARD)
@pytest.mark.parametrize("crop_mode", CROP_MODES)
@pytest.mark.parametrize(("size", "crop_pct"), [((64, 64), 1.15), ((60, 90), 0.875)])
def test_awkward_pictures(form, crop_mode, size, crop_pct):
    image = AWKWARD[form](picture(PHOTOGRAPHS[0]))
    for interpolation in ("bilinear", "bicubic"):
        spec = ImageSpec(
            input_size=size, crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation
        )
        expected = reference(image.convert("RGB"), spec)
        preprocess = ImagePreprocessor(spec)
        np.testing.assert_array_equal(preprocess(image)[0], expected)
        assert_graph_agrees(preprocess.graph(np.asarray(image.convert("RGB"))), expected, spec)


@pytest.mark.parametrize("transparency", [5, bytes(range(60))])
def test_palette_with_transparency(transparency):
    stream = io.BytesIO()
    flat = picture(PHOTOGRAPHS[0]).quantize(60)
    flat.save(stream, "PNG", transparency=transparency)
    spec = ImageSpec(input_size=(64, 64))
    expected = reference(flat.convert("RGB"), spec)
    preprocess = ImagePreprocessor(spec)
    np.testing.assert_array_equal(preprocess(stream.getvalue())[0], expected)
    assert_graph_agrees(preprocess.graph.from_bytes(stream.getvalue()), expected, spec)


@pytest.mark.parametrize("name", ["resnet50.a1_in1k", "resnetv2_50x1_bit.goog_in21k_ft_in1k"])
@pytest.mark.parametrize("use_test_size", [False, True])
def test_the_configs_of_published_models(name, use_test_size):
    cfg = timm.get_pretrained_cfg(name)
    config = timm.data.resolve_data_config(
        pretrained_cfg=cfg.to_dict(), use_test_size=use_test_size
    )
    spec = ImageSpec(
        input_size=cfg.input_size[1:],
        crop_pct=cfg.crop_pct,
        crop_mode=cfg.crop_mode,
        interpolation=cfg.interpolation,
        mean=cfg.mean,
        std=cfg.std,
        test_input_size=cfg.test_input_size and cfg.test_input_size[1:],
        test_crop_pct=cfg.test_crop_pct,
    )
    preprocess = ImagePreprocessor(spec)
    preprocess = preprocess.at_test_size() if use_test_size else preprocess
    transform = timm.data.create_transform(**config, is_training=False)
    for path in PHOTOGRAPHS[:2]:
        expected = transform(picture(path)).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(preprocess(path)[0], expected)
