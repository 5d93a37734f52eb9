"""The graph path against the host path."""

import functools
import io
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

from zoo.errors import InputError
from zoo.preprocessing.graph import _FLOAT64, decode
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.spec import ImageSpec
from zoo.preprocessing.training import TrainPreprocessor

CHINA = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"  # 640 x 427
SMALL = ImageSpec(input_size=(48, 64), crop_pct=0.9)
UNKNOWN = [tf.TensorSpec([None, None, 3], tf.uint8)]
INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]


@pytest.fixture(scope="module")
def china():
    with Image.open(CHINA) as image:
        image.load()
    return image


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_agrees(graph, host, spec):
    """The contract: 99.9 % of the pixels are the same, and none is more than 1/255 off."""
    graph = np.asarray(graph)
    assert graph.shape == host.shape
    assert graph.dtype == host.dtype == np.float32
    off = np.abs(graph - host) * np.asarray(spec.std, np.float32) * 255
    assert off.max() < 1.001
    assert np.mean(off.max(axis=-1) == 0) >= 0.999


# Resize, crop and pad


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crop_mode": "squash", "input_size": (96, 96)},
        {"crop_mode": "border", "input_size": (97, 161), "crop_pct": 0.9},
        {"crop_mode": "center", "input_size": (161, 97), "crop_pct": 1.15},
    ],
    ids=lambda options: options.get("crop_mode", "default"),
)
def test_photograph(china, options, interpolation):
    preprocess = ImagePreprocessor(ImageSpec(**options, interpolation=interpolation))
    graph = tf.function(preprocess.graph, input_signature=UNKNOWN, autograph=False)
    result, expected = graph(np.asarray(china)), preprocess(china)[0]
    assert_agrees(result, expected, preprocess.spec)
    if interpolation not in ("hamming", "lanczos"):  # which take sines
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "box"])
def test_awkward_sizes(crop_mode, interpolation):
    spec = ImageSpec(
        input_size=(97, 161), crop_pct=1.15, crop_mode=crop_mode, interpolation=interpolation
    )
    preprocess = ImagePreprocessor(spec)
    graph = tf.function(preprocess.graph, input_signature=UNKNOWN)
    # single pixels; ties of the box filter; heights that lose more than twice what widths do;
    # sizes that are those of the target already
    sizes = [(1, 1), (1, 9), (9, 1), (2, 3), (217, 333), (500, 7), (700, 90), (300, 84), (3, 400)]
    for size in [*sizes, (84, 140), (97, 161), (448, 320), (640, 230)]:
        image = noise(*size, 3)
        np.testing.assert_array_equal(graph(image), preprocess(image)[0], err_msg=str(size))


@pytest.mark.parametrize(
    "options",
    [
        {"crop_rounding": "floor"},
        {"crop_rounding": "floor", "crop_mode": "squash", "crop_pct": 0.86},
        {"crop_rounding": "floor", "crop_pct": 1.15},
        {"resize": False},
        {"resize": False, "crop_rounding": "floor"},
    ],
)
def test_crops_of_other_references(options):
    """Odd excess on either side, more and fewer pixels than the crop."""
    preprocess = ImagePreprocessor(ImageSpec(input_size=(97, 97), **options))
    graph = tf.function(preprocess.graph, input_signature=UNKNOWN)
    results = {}
    for size in [(1, 1), (90, 90), (97, 97), (98, 100), (217, 333), (300, 84), (60, 401)]:
        image = noise(*size, 3)
        results[size] = graph(image).numpy()
        np.testing.assert_array_equal(results[size], preprocess(image)[0], err_msg=str(size))
    other = ImageSpec(input_size=(97, 97), **{**options, "crop_rounding": "even", "resize": True})
    changed = [
        not np.array_equal(ImagePreprocessor(other)(noise(*size, 3))[0], result)
        for size, result in results.items()
    ]
    assert any(changed)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"input_size": (97, 161)},
        {"crop_mode": "border"},
        {"crop_mode": "border", "input_size": (100, 64), "crop_pct": 0.9},
        {"crop_rounding": "floor"},
    ],
)
def test_sizes_in_the_graph_are_those_of_the_host(options):
    """Where a graph optimiser's division would round otherwise than the host's."""
    spec = ImageSpec(**options)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)] * 2, autograph=False)
    def graph(heights, widths):
        resized = spec.resized_size(heights, widths, _FLOAT64)
        return [*resized, *spec.crop_offset(*resized, _FLOAT64)]

    heights, widths = (edges.ravel() for edges in np.mgrid[1.0:1000.0, 1.0:1000.0])
    resized = spec.resized_size(heights, widths, np)
    expected = [*resized, *spec.crop_offset(*resized, np)]
    np.testing.assert_array_equal(graph(heights, widths), expected)


# Ways of use


def test_known_sizes_batches_and_eager_calls():
    preprocess = ImagePreprocessor(SMALL)
    images = noise(3, 70, 90, 3)
    expected = preprocess(images)
    np.testing.assert_array_equal(preprocess.graph(images), expected)
    np.testing.assert_array_equal(preprocess.graph(images[1]), expected[1])
    for shape in ([None] * 4, [3, 70, 90, 3], [None, 70, 90, 3], [3, None, None, None]):
        graph = tf.function(preprocess.graph, input_signature=[tf.TensorSpec(shape, tf.uint8)])
        np.testing.assert_array_equal(graph(images), expected)
        assert graph.get_concrete_function().output_shapes == [shape[0], 48, 64, 3]
    assert preprocess.graph(images[:0]).shape == (0, 48, 64, 3)


def test_tf_data(china):
    preprocess = ImagePreprocessor(SMALL)
    images = [np.asarray(china), noise(50, 80, 3), noise(100, 31, 3)]
    ds = tf.data.Dataset.from_generator(lambda: images, output_signature=UNKNOWN[0])
    ds = ds.map(preprocess.graph, num_parallel_calls=2).batch(3)
    assert ds.element_spec.shape.as_list() == [None, 48, 64, 3]
    np.testing.assert_array_equal(next(iter(ds)), preprocess(images))


def test_saved_model(tmp_path):
    preprocess = ImagePreprocessor(SMALL)
    module = tf.Module()
    module.serve = tf.function(
        preprocess.graph.from_bytes, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path))
    data = [CHINA.read_bytes(), encoded(Image.fromarray(noise(50, 40, 3)))]
    result = tf.saved_model.load(str(tmp_path)).serve(tf.constant(data))
    np.testing.assert_array_equal(result, preprocess(data))


def test_xla():
    image = noise(70, 90, 3)
    preprocess = ImagePreprocessor(SMALL)
    compiled = tf.function(preprocess.graph, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(image)), preprocess(image)[0])


def test_channels():
    grey, color, alpha = noise(60, 80, 1), noise(60, 80, 3), noise(60, 80, 4)
    rgb = ImagePreprocessor(SMALL)
    for image in (grey, color, alpha):
        np.testing.assert_array_equal(rgb.graph(image), rgb(image)[0])
    one = ImagePreprocessor(SMALL.with_channels(1))
    for image in (grey, color, alpha):
        np.testing.assert_array_equal(one.graph(image), one(image)[0])
    five = ImagePreprocessor(SMALL.with_channels(5))
    image = noise(60, 80, 5)
    np.testing.assert_array_equal(five.graph(image), five(image)[0])
    with pytest.raises(InputError, match="3 channels; this model takes 5"):
        five.graph(color)


def test_transparent_arrays_on_white():
    """All colours with all alphas, in evaluation and in training."""
    levels = np.arange(256, dtype=np.uint8)
    color, alpha = (x[..., None] for x in np.meshgrid(levels, levels))
    image = np.concatenate([color, 255 - color, color // 2, alpha], axis=-1)
    spec = ImageSpec(input_size=(256, 256), crop_pct=1.0, alpha="white")
    preprocess = ImagePreprocessor(spec)
    expected = preprocess(image)
    np.testing.assert_array_equal(preprocess.graph(image[None]), expected)
    whole = TrainPreprocessor(spec, scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
    np.testing.assert_array_equal(whole(image), expected[0])


def test_bgr():
    spec = ImageSpec(
        mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4), crop_mode="border", channel_order="bgr"
    )
    preprocess = ImagePreprocessor(spec)
    image = noise(60, 90, 3)
    np.testing.assert_array_equal(preprocess.graph(image), preprocess(image)[0])


@pytest.mark.parametrize(
    "images", [np.zeros((8, 8, 3), np.float32), np.zeros((8, 8), np.uint8), np.zeros((1,) * 5)]
)
def test_refused(images):
    preprocess = ImagePreprocessor(SMALL)
    with pytest.raises(InputError, match=r"uint8 tensors \[h, w, c\] or \[n, h, w, c\] with"):
        preprocess.graph(images)
    with pytest.raises(InputError, match=r"uint8 tensors \[h, w, c\] with values 0 to 255; found"):
        preprocess.train(images)


def test_the_host_path_points_to_the_graph():
    misuse = tf.function(ImagePreprocessor(SMALL), autograph=False)
    with pytest.raises(InputError, match=r"use `preprocess\.graph`"):
        misuse(tf.zeros((8, 8, 3), tf.uint8))


def test_the_host_path_imports_no_tensorflow():
    code = (
        "import sys\n"
        "from zoo.preprocessing.image import ImagePreprocessor\n"
        "from zoo.preprocessing.spec import ImageSpec\n"
        f"ImagePreprocessor(ImageSpec())({str(CHINA)!r})\n"
        "print({'tensorflow', 'keras', 'requests'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert run.stdout.strip() == "set()"


# Files


FILES = {
    "jpeg": lambda china: CHINA.read_bytes(),
    "jpeg, 4:2:0": lambda china: encoded(china, "JPEG", quality=50, subsampling=2),
    "jpeg, progressive": lambda china: encoded(china, "JPEG", progressive=True),
    "jpeg, grey": lambda china: encoded(china.convert("L"), "JPEG"),
    "png": lambda china: encoded(china),
    "png, alpha": lambda china: encoded(Image.merge("RGBA", (*china.split(), china.split()[0]))),
    "png, palette": lambda china: encoded(china.quantize(64), transparency=bytes(range(64))),
    "png, 2 bits": lambda china: encoded(china.quantize(4)),
    "png, 1 bit": lambda china: encoded(china.convert("1")),
    "bmp": lambda china: encoded(china, "BMP"),
    "bmp, palette": lambda china: encoded(china.quantize(64), "BMP"),
    "bmp, grey": lambda china: encoded(china.convert("L"), "BMP"),
    "bmp, 32 bits": lambda china: encoded(china.convert("RGBA"), "BMP"),
    "gif": lambda china: encoded(china.quantize(64), "GIF"),
    "gif, animated": lambda china: encoded(
        china.quantize(64), "GIF", save_all=True, append_images=[china.quantize(8)]
    ),
}


@functools.cache
def from_bytes(preprocess):
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(preprocess.graph.from_bytes, input_signature=signature, autograph=False)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 3])
def test_files(china, name, channels):
    data = FILES[name](china)
    preprocess = ImagePreprocessor(SMALL.with_channels(channels))
    np.testing.assert_array_equal(from_bytes(preprocess)(data), preprocess(data)[0])


@pytest.mark.parametrize("name", [name for name in FILES if "gif" not in name])
def test_files_on_white(china, name):
    data = FILES[name](china)
    preprocess = ImagePreprocessor(replace(SMALL, alpha="white"))
    np.testing.assert_array_equal(from_bytes(preprocess)(data), preprocess(data)[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda china: encoded(Image.merge("LA", (china.convert("L"), china.convert("L")))),
        lambda china: encoded(china.convert("L"), transparency=7),
        lambda china: encoded(china.convert("1"), transparency=255),
        lambda china: encoded(china.quantize(64), transparency=3),
        lambda china: encoded(china.quantize(4), transparency=bytes([3, 3, 99, 255])),
        lambda china: encoded(china, transparency=china.getpixel((0, 0))),
        lambda china: with_exif(china.convert("RGBA"), "PNG", 6, little=True),
    ],
)
def test_transparent_files_on_white(china, make):
    data = make(china)
    preprocess = ImagePreprocessor(replace(SMALL, alpha="white"))
    np.testing.assert_array_equal(from_bytes(preprocess)(data), preprocess(data)[0])
    train = preprocess.train.from_bytes(data, [0, 1])
    np.testing.assert_array_equal(train, preprocess.train(decode(data, alpha="white"), [0, 1]))


def test_cmyk_is_rounded_otherwise(china):
    """TensorFlow rounds down what Pillow rounds to the nearest."""
    data = encoded(Image.merge("CMYK", (*china.split(), china.convert("L"))), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert set(np.unique(pixels - decode(data))) == {0, 1}


def test_16_bit_png():
    values = np.random.default_rng(0).integers(0, 2**16, (50, 60), np.uint16)
    preprocess = ImagePreprocessor(SMALL)
    high = (values >> 8).astype(np.uint8)
    result = preprocess.graph.from_bytes(encoded(Image.fromarray(values)))
    np.testing.assert_array_equal(result, preprocess(high)[0])


def with_exif(china, form, orientation, little, xmp=False):
    exif = Image.Exif()
    exif.endian = "<" if little else ">"
    exif[0x010F] = "a maker"  # goes first, being of a smaller number
    exif[0x0112] = orientation
    exif[0x0131] = "a program"
    options = {"xmp": b"<x/>" * 999} if xmp else {}
    return encoded(china.resize((90, 60)), form, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_orientation(china, form, orientation, little):
    data = with_exif(china, form, orientation, little, xmp=form == "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif()[0x0112] == orientation
    preprocess = ImagePreprocessor(SMALL)
    result = from_bytes(preprocess)(data)
    np.testing.assert_array_equal(result, preprocess(data)[0])
    raw = ImagePreprocessor(SMALL, exif=False)
    np.testing.assert_array_equal(from_bytes(raw)(data), raw(data)[0])
    assert np.array_equal(result, raw(data)[0]) == (orientation in (0, 1, 9))


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"MM",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff\x01\x12",
        b"II*\0\x08\0\0\0\0\0",
    ],
)
def test_damaged_exif_is_passed_over(china, exif):
    data = encoded(china.resize((90, 60)), "JPEG", exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says that the block is damaged
        expected = ImagePreprocessor(SMALL, exif=False)(data)[0]
    np.testing.assert_array_equal(from_bytes(ImagePreprocessor(SMALL))(data), expected)


@pytest.mark.parametrize(
    "data", [b"", b"B", b"hello world", CHINA.read_bytes()[:9000], b"\xff\xd8"]
)
def test_broken_files_are_errors(data):
    with pytest.raises(tf.errors.InvalidArgumentError):
        from_bytes(ImagePreprocessor(SMALL))(data)
