"""Augmentation against Pillow, and what is random against its distribution."""

import io
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from zoo.preprocessing import augment
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.pixels import normalize
from zoo.preprocessing.spec import ImageSpec
from zoo.preprocessing.training import _CROP, TrainPreprocessor

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"
SMALL = ImageSpec(input_size=(48, 64), crop_pct=0.9)
FILL = (124, 116, 104)


def opened(name):
    with Image.open(PHOTOGRAPHS / name) as image:
        image.load()
    return image


CHINA = opened("china.jpg")  # 640 x 427


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


IMAGES = {
    "photograph": CHINA.resize((223, 167)),
    "flower": opened("flower.jpg").crop((100, 50, 411, 304)),
    "dark": CHINA.resize((97, 61)).point(lambda level: 30 + level // 4),
    "grey": CHINA.convert("L").resize((97, 61)),
    "digit": CHINA.convert("L").resize((8, 8)),
    "noise": Image.fromarray(noise(33, 47, 3)),
    "one color": Image.new("RGB", (21, 13), (3, 77, 255)),
    "two colors": Image.fromarray(np.uint8([[[0, 9, 200]] * 5, [[1, 9, 90]] * 5])),
    "one pixel": Image.new("RGB", (1, 1), (3, 77, 255)),
}


def tensor(image):
    pixels = np.asarray(image)
    return tf.constant(pixels if pixels.ndim == 3 else pixels[:, :, None])


def fill(image):
    return FILL if image.mode == "RGB" else FILL[:1]


def pixels_like(image, result):
    assert result.dtype == tf.uint8
    return result.numpy().reshape(np.asarray(image).shape).astype(int)


# Operations on levels: exact


def solarize_add(image, amount):
    return image.point(
        [min(255, v + amount) if v < 128 else v for v in range(256)] * len(image.getbands())
    )


def enhance(name):
    return lambda image, factor: getattr(ImageEnhance, name)(image).enhance(factor)


FACTORS = (0.0, 0.1, 0.37, 0.9, 1.0, 1.13, 1.72, 1.9)
LEVELS = {
    "autocontrast": (ImageOps.autocontrast, [()]),
    "equalize": (ImageOps.equalize, [()]),
    "invert": (ImageOps.invert, [()]),
    "posterize": (ImageOps.posterize, [(bits,) for bits in range(1, 9)]),
    "solarize": (ImageOps.solarize, [(v,) for v in (0, 1, 100, 230, 255, 256)]),
    "solarize_add": (solarize_add, [(v,) for v in (0, 50, 110)]),
    "color": (enhance("Color"), [(f,) for f in FACTORS]),
    "contrast": (enhance("Contrast"), [(f,) for f in FACTORS]),
    "brightness": (enhance("Brightness"), [(f,) for f in FACTORS]),
    "sharpness": (enhance("Sharpness"), [(f,) for f in FACTORS]),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_pillows(name, image):
    reference, arguments = LEVELS[name]
    for args in arguments:
        result = pixels_like(image, augment.RAND_AUGMENT[name](tensor(image), *args))
        np.testing.assert_array_equal(result, np.asarray(reference(image, *args)), str(args))


def test_no_bits_leave_black():
    assert not augment.posterize(tensor(CHINA), 0).numpy().any()


# Operations on shape: a rounding of float32 apart


def moved(matrix):
    def transform(image, amount):
        data = matrix(amount, *image.size)
        bilinear = Image.Resampling.BILINEAR
        fillcolor = fill(image) if image.mode == "RGB" else FILL[0]
        return image.transform(
            image.size, Image.Transform.AFFINE, data, bilinear, fillcolor=fillcolor
        )

    return transform


def turned(image, degrees):
    color = fill(image) if image.mode == "RGB" else FILL[0]
    return image.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=color)


SHARES = (-0.4131, -0.27, -0.1, 0.0, 0.003, 0.15, 0.3)
SHAPES = {
    "shear_x": (moved(lambda v, w, h: (1, v, 0, 0, 1, 0)), SHARES),
    "shear_y": (moved(lambda v, w, h: (1, 0, 0, v, 1, 0)), SHARES),
    "translate_x": (moved(lambda v, w, h: (1, 0, v * w, 0, 1, 0)), SHARES),
    "translate_y": (moved(lambda v, w, h: (1, 0, 0, 0, 1, v * h)), SHARES),
    "rotate": (turned, [100 * share for share in SHARES]),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_pillows(name, image):
    """Levels that lie on a whole number but for the last bit are cut to one side or the other."""
    reference, amounts = SHAPES[name]
    for amount in amounts:
        result = pixels_like(image, augment.RAND_AUGMENT[name](tensor(image), amount, fill(image)))
        off = np.abs(result - np.asarray(reference(image, amount)).astype(int))
        assert off.max() <= 1, amount
        assert np.sum(off > 0) <= max(2, 0.05 * off.size), amount


def test_every_operation_is_compared():
    assert set(LEVELS) | set(SHAPES) == set(augment.RAND_AUGMENT)
    assert len(augment.RAND_AUGMENT) == 15


# RandAugment


@pytest.mark.parametrize(
    ("magnitude", "increasing", "expected"),
    [
        # of timm's `rand-m9` and `rand-m9-inc1`
        (9, False, {"posterize": (3, 3), "solarize": (230, 230), "color": (1.72, 1.72)}),
        (9, True, {"posterize": (1, 1), "solarize": (26, 26), "color": (0.19, 1.81)}),
        (10, True, {"posterize": (0, 0), "solarize": (0, 0), "sharpness": (0.1, 1.9)}),
        (0, True, {"posterize": (4, 4), "solarize": (256, 256), "contrast": (1.0, 1.0)}),
        (9, True, {"rotate": (-27.0, 27.0), "solarize_add": (99, 99), "shear_x": (-0.27, 0.27)}),
        (10, False, {"translate_y": (-0.45, 0.45), "brightness": (1.9, 1.9)}),
    ],
)
def test_levels_of_magnitudes(magnitude, increasing, expected):
    levels = augment._levels(magnitude / 10, increasing)
    for name, level in expected.items():
        assert levels[name] == pytest.approx(level), name


def test_layers_apply_the_operations_drawn():
    image = IMAGES["photograph"].resize((40, 30))
    names = list(augment.RAND_AUGMENT)

    def drawn(name, apply, toss):
        return [(names.index(name) + 0.5) / len(names), apply, toss]

    draws = drawn("rotate", 0.2, 0.9) + drawn("invert", 0.7, 0.1) + drawn("posterize", 0.1, 0.3)
    result = augment.rand_augment(
        tensor(image), tf.constant(draws), layers=3, magnitude=5, fill=FILL
    )
    expected = augment.posterize(augment.rotate(tensor(image), 15.0, FILL), 2)
    np.testing.assert_array_equal(result, expected)
    mirrored = tf.constant(drawn("rotate", 0.2, 0.1))
    result = augment.rand_augment(tensor(image), mirrored, layers=1, magnitude=5, fill=FILL)
    np.testing.assert_array_equal(result, augment.rotate(tensor(image), -15.0, FILL))


def test_frequencies_of_operations(monkeypatch):
    """Each of 15 with probability 1/30, both outcomes of a toss alike, else the image itself."""

    def marked(k):  # 2 k + 1, or 2 k + 2 where its argument is the greater one
        return lambda image, *args: (
            image + tf.cast(2 * k + 1 + (tf.cast(args[0] > 1, tf.int32) if args else 0), tf.uint8)
        )

    names = list(augment.RAND_AUGMENT)
    fakes = {name: marked(k) for k, name in enumerate(names)}
    monkeypatch.setattr(augment, "RAND_AUGMENT", fakes)
    monkeypatch.setattr(augment, "_levels", lambda *_: dict.fromkeys(names[3:], (0, 2)))
    count = 12000
    draws = tf.random.stateless_uniform([count, 3], [3, 4], dtype=tf.float64)
    black = tf.zeros((1, 1, 1), tf.uint8)

    @tf.function(autograph=False)
    def run():
        one = lambda d: augment.rand_augment(black, d, layers=1, magnitude=9, fill=(0,))  # noqa: E731
        return tf.map_fn(one, draws, fn_output_signature=tf.uint8)

    counts = np.bincount(run().numpy().ravel(), minlength=31)
    assert counts[0] / count == pytest.approx(1 / 2, abs=0.02)
    plain, leveled = counts[1:7:2], counts[7:31]
    assert not counts[2:7:2].any()
    np.testing.assert_allclose(plain / count, 1 / 30, atol=0.0075)
    np.testing.assert_allclose(leveled / count, 1 / 60, atol=0.0055)


# Colour jitter


@pytest.mark.parametrize("name", ["photograph", "grey"])
def test_color_jitter_is_a_sequence_of_pillows(name):
    image, strength = IMAGES[name].resize((50, 40)), 0.4
    steps = {name: enhance(name) for name in ("Brightness", "Contrast", "Color")}
    for place, order in enumerate(itertools.permutations(range(3))):
        factors = np.random.default_rng(place).uniform(size=3)
        ranks = np.argsort(order) / 3
        draws = tf.constant([*factors, *ranks])
        expected = image
        for k in order:
            factor = 1 - strength + 2 * strength * factors[k]
            expected = list(steps.values())[k](expected, factor)
        result = pixels_like(image, augment.color_jitter(tensor(image), draws, strength))
        np.testing.assert_array_equal(result, np.asarray(expected))


def test_color_jitter_keeps_factors_positive():
    draws = tf.zeros(augment.JITTER_DRAWS, tf.float64)
    assert not augment.color_jitter(tensor(CHINA), draws, 1.5).numpy().any()


# Random erasing


def erasures(mode, probability, count=1500, size=(40, 60)):
    draws = tf.random.stateless_uniform([count, augment.ERASING_DRAWS], [5, 6], dtype=tf.float64)
    image = tf.fill((*size, 2), 9.0)

    @tf.function(autograph=False)
    def run():
        one = lambda d: augment.erase(image, d, probability, mode)  # noqa: E731
        return tf.map_fn(one, draws, fn_output_signature=tf.float32)

    return run().numpy()


def test_erased_boxes():
    results = erasures("const", 0.25)
    assert set(np.unique(results)) == {0.0, 9.0}
    masks = results[..., 0] == 0
    np.testing.assert_array_equal(masks, results[..., 1] == 0)
    erased = masks[masks.any((1, 2))]
    assert len(erased) / len(masks) == pytest.approx(0.25, abs=0.05)
    heights, widths = (erased.any(axis).sum(1) for axis in (2, 1))
    np.testing.assert_array_equal(heights * widths, erased.sum((1, 2)))  # boxes, with no holes
    share, ratio = heights * widths / (40 * 60), heights / widths
    assert 0.017 < share.min() < 0.03
    assert 0.29 < share.max() < 0.35
    assert share.mean() == pytest.approx(0.17, abs=0.02)
    assert 0.24 < ratio.min() < 0.36
    assert 2.4 < ratio.max() < 4
    assert np.median(np.log(ratio)) == pytest.approx(0, abs=0.15)
    tops, lefts = erased.any(2).argmax(1), erased.any(1).argmax(1)
    assert tops.min() == lefts.min() == 0
    assert (tops + heights).max() == 40
    assert (lefts + widths).max() == 60


def test_erased_to_noise():
    results = erasures("pixel", 1.0, count=300)
    values = results[results != 9]
    assert 0.1 < values.size / results.size < 0.22
    assert values.mean() == pytest.approx(0, abs=0.02)
    assert values.std() == pytest.approx(1, abs=0.02)
    assert len(np.unique(values)) > 0.98 * values.size


def test_images_without_room_for_a_box_stay():
    results = erasures("const", 1.0, count=20, size=(1, 60))
    assert (results == 9).all()


# Mixup and cutmix


def mixed(count, images, labels, **options):
    @tf.function(autograph=False)
    def run():
        one = lambda k: augment.mix(images, labels, tf.stack([1, k]), **options)  # noqa: E731
        return tf.map_fn(one, tf.range(count), fn_output_signature=(tf.float32, tf.float32))

    return [part.numpy() for part in run()]


BATCH = tf.reshape(tf.range(5.0), (5, 1, 1, 1)) + tf.zeros((5, 12, 18, 2))
CLASSES = tf.eye(5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup(alpha):
    x, y = mixed(2000, BATCH, CLASSES, mixup=alpha)
    share = y[:, 0, 0]
    np.testing.assert_allclose(y[:, 0, 4], 1 - share, atol=1e-6)
    np.testing.assert_array_equal(y[:, 2], np.tile(np.eye(5)[2], (2000, 1)))
    np.testing.assert_allclose(x[:, 1, 0, 0, 0], y[:, 1, 1] * 1 + y[:, 1, 3] * 3, rtol=1e-6)
    assert (x == x[:, :, :1, :1, :1]).all()
    np.testing.assert_allclose(y.sum(-1), 1, atol=1e-6)
    assert share.mean() == pytest.approx(0.5, abs=0.04)
    assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.12)


@pytest.mark.parametrize("alpha", [0.4, 1.0])
def test_cutmix(alpha):
    x, y = mixed(2000, BATCH, CLASSES, cutmix=alpha)
    own = x[:, 0, :, :, 0] == 0  # of the first image; the rest is of the last
    np.testing.assert_array_equal(own | (x[:, 0, :, :, 0] == 4), True)
    np.testing.assert_allclose(y[:, 0, 0], own.mean((1, 2)), atol=1e-6)
    other = ~own
    heights, widths = (other.any(axis).sum(1) for axis in (2, 1))
    np.testing.assert_array_equal(heights * widths, other.sum((1, 2)))
    # the box's edges go as the root of a share of the distribution beta; a half of an edge on
    # average lies outside where the box is as large as the image, so that more stays than 1/2
    assert 0.55 < y[:, 0, 0].mean() < 0.72
    assert (widths.max(), heights.max()) == (17, 11)  # whole edges are left to a lambda of 0
    centers = (other.any(1) * np.arange(18)).sum(1)[widths > 0] / widths[widths > 0]
    assert centers.mean() == pytest.approx(8.5, abs=0.4)
    assert 2.5 < centers.std() < 4.5


def test_cutmix_draws_its_share_from_beta():
    """Boxes that touch no edge have an area of 1 - lambda, rounded down edge by edge."""
    shares = [
        float(augment._beta(0.4, tf.random.stateless_uniform([7], [k, 0], dtype=tf.float64)))
        for k in range(400)
    ]
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), rel=0.15)
    draws = tf.constant([0, 0, 0, 0, 0.5, 0.5, 0], tf.float64)
    box = [int(v) for v in augment._cutmix_box((100, 201), tf.constant(0.75, tf.float64), draws)]
    assert box == [25, 50, 75, 150]


def test_one_of_both_by_even_chance():
    x, _ = mixed(1000, BATCH, CLASSES, mixup=1.0, cutmix=1.0)
    blended = (x == x[:, :, :1, :1, :1]).all((1, 2, 3, 4)) & (x[:, 0, 0, 0, 0] % 4 != 0)
    assert blended.mean() == pytest.approx(0.5, abs=0.06)


def test_tiny_alphas_give_either_end():
    draws = tf.random.stateless_uniform([60, 7], [8, 9], dtype=tf.float64)
    shares = [float(augment._beta(1e-4, row)) for row in draws]
    assert {round(share, 3) for share in shares} == {0.0, 1.0}


def test_mix_follows_from_its_seed():
    options = {"mixup": 0.3, "cutmix": 1.0}
    first, again, other = (
        augment.mix(BATCH, CLASSES, seed, **options)[1].numpy().tobytes()
        for seed in ([1, 2], [1, 2], [1, 3])
    )
    assert first == again != other
    assert augment.mix(BATCH, CLASSES, [1, 2])[0] is BATCH


# From an image to what the model takes


@pytest.fixture(scope="module")
def train():
    return ImagePreprocessor(SMALL).train


def read(image):
    return lambda key: ("The image", image)


def box_of(train, image, seed):
    return chosen(train, image, train._draws(seed)[_CROP].numpy())


def chosen(train, image, draws):
    """Top, left, height and width."""
    drawn, fits, central = train._boxes(float(image.height), float(image.width), draws, np)
    return [int(v) for v in (np.stack(drawn)[:, fits.argmax()] if fits.any() else central)]


def test_train_is_a_crop_resize_and_flip(train):
    seen = set()
    for seed in range(12):
        top, left, height, width = box_of(train, CHINA, [7, seed])
        crop = CHINA.crop((left, top, left + width, top + height))
        pixels = np.asarray(crop.resize((64, 48), Image.Resampling.BICUBIC))
        both = [normalize(p, SMALL) for p in (pixels, pixels[:, ::-1])]
        result = train(np.asarray(CHINA), [7, seed]).numpy()
        flips = [np.array_equal(result, expected) for expected in both]
        assert sum(flips) == 1
        seen.add(flips[1])
        np.testing.assert_array_equal(train.from_host(read(CHINA), 0, [7, seed]), result)
    assert seen == {True, False}


def test_flips_come_by_their_probability():
    image = np.arange(2, dtype=np.uint8).reshape(1, 2, 1) * 200
    spec = ImageSpec(input_size=(1, 2), channels=1, mean=(0.5,), std=(0.5,), crop_pct=1.0)
    train = TrainPreprocessor(spec, scale=None, flip=0.3)
    seeds = tf.data.Dataset.range(2000).map(lambda k: train(image, tf.cast([1, k], tf.int32)))
    flipped = [float(x[0, 0, 0] > x[0, 1, 0]) for x in seeds.as_numpy_iterator()]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.045)


def test_boxes_keep_their_bounds(train):
    seeds = tf.stack([tf.fill([8000], 7), tf.range(8000)], 1)
    draw = tf.function(lambda: tf.map_fn(train._draws, seeds, fn_output_signature=tf.float64))
    boxes = np.array([chosen(train, CHINA, row) for row in draw().numpy()[:, _CROP]])
    top, left, height, width = boxes.T
    assert (boxes[:, :2] >= 0).all()
    assert (top + height <= 427).all()
    assert (left + width <= 640).all()
    share, ratio = height * width / (427 * 640), width / height
    assert 0.078 < share.min() < 0.09
    assert 0.85 < share.max() <= 1
    assert 0.745 < ratio.min() < 0.76
    assert 1.32 < ratio.max() < 1.34
    assert len(np.unique(top)) > 100
    # the distribution is that of trying one after the other, until one fits
    rng = np.random.default_rng(0)
    areas = rng.uniform(0.08, 1, (20000, 10)) * 427 * 640
    ratios = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), (20000, 10)))
    heights, widths = np.rint(np.sqrt(areas / ratios)), np.rint(np.sqrt(areas * ratios))
    fits = (heights <= 427) & (widths <= 640)
    assert fits.any(1).mean() > 0.99
    first = (fits.any(1), fits.argmax(1)[fits.any(1)])
    for found, tried in ((height, heights[first]), (width, widths[first])):
        assert scipy.stats.ks_2samp(found, tried).pvalue > 0.01
    assert scipy.stats.kstest((top + 0.5) / (427 - height + 1), "uniform").pvalue > 0.01
    assert scipy.stats.kstest((left + 0.5) / (640 - width + 1), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("size", "box"), [((900, 30), [0, 430, 30, 40]), ((30, 900), [430, 0, 40, 30])]
)
def test_images_that_no_draw_fits_give_their_centre(size, box):
    train = TrainPreprocessor(SMALL, scale=(0.9, 1.0))
    image = Image.fromarray(noise(size[1], size[0], 3))
    assert box_of(train, image, [0, 0]) == box
    result = train(np.asarray(image), [0, 0])
    np.testing.assert_array_equal(train.from_host(read(image), 0, [0, 0]), result)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_train_takes_any_size(train, size):
    image = noise(*size, 3)
    assert train(image, [0, 1]).shape == (48, 64, 3)
    np.testing.assert_array_equal(train.from_host(read(image), 0, [0, 1]), train(image, [0, 1]))


SPECS = {
    "small": SMALL,
    "digits": ImageSpec(input_size=(32, 32), channels=1, mean=(0.3,), std=(0.31,), crop_pct=1.0),
    "bgr": ImageSpec(
        input_size=(40, 30), mean=(0.1, 0.5, 0.9), std=(0.2, 0.3, 0.4), channel_order="bgr"
    ),
    "border": replace(SMALL, crop_mode="border", interpolation="bilinear"),
    "five": SMALL.with_channels(5),
}


@pytest.mark.parametrize("name", SPECS)
def test_with_all_off_it_is_evaluation(name):
    preprocess = ImagePreprocessor(SPECS[name])
    train = TrainPreprocessor(SPECS[name], scale=None, flip=0.0)
    image = noise(67, 45, SPECS[name].channels)
    expected = preprocess(image)[0]
    np.testing.assert_array_equal(train(image, [0, 1]), expected)
    np.testing.assert_array_equal(train.from_host(read(image), 0, [0, 1]), expected)


def test_all_levels_are_normalised_as_in_evaluation():
    spec = ImageSpec(input_size=(16, 16), resize=False, crop_pct=1.0)
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    train = tf.function(TrainPreprocessor(spec, scale=None, flip=0.0), autograph=False)
    result = train(tf.constant(levels), tf.constant([0, 1]))
    np.testing.assert_array_equal(result, ImagePreprocessor(spec)(levels)[0])


@pytest.mark.parametrize("name", ["digits", "bgr", "five"])
def test_host_and_graph_agree_on_all_of_it(name):
    train = TrainPreprocessor(
        SPECS[name], color_jitter=0.4, rand_augment=(2, 9), random_erasing=0.5, erasing_mode="pixel"
    )
    image = noise(67, 45, SPECS[name].channels)
    graph = tf.function(train, autograph=False)
    results = [graph(image, tf.constant([3, seed])).numpy() for seed in range(6)]
    for seed, result in enumerate(results):
        # a graph computes the noise and the sines of a turn to another last bit
        off = np.abs(train.from_host(read(image), 0, [3, seed]) - result)
        np.testing.assert_allclose(off * max(SPECS[name].std) * 255, 0, atol=1.001)
        assert np.mean(off > 1e-5) < 1e-3
    assert len({result.tobytes() for result in results}) == 6


def test_parts_do_not_disturb_one_another(train):
    """What one part draws does not depend on which others are on."""
    image = np.asarray(CHINA)
    for seed in range(8):
        more = replace(train, random_erasing=1.0)(image, [4, seed]).numpy()
        plain = train(image, [4, seed]).numpy()
        erased = (more == 0).all(-1)
        assert 0.01 < erased.mean() < 0.35
        np.testing.assert_array_equal(more[~erased], plain[~erased])


def test_fill_is_the_mean_color():
    spec = ImageSpec(input_size=(30, 30), mean=(0.2, 0.4, 0.6), std=(1.0, 1.0, 1.0))
    assert TrainPreprocessor(spec)._mean_color == (51, 102, 153)
    assert TrainPreprocessor(replace(spec, channel_order="bgr"))._mean_color == (153, 102, 51)


def test_files(train):
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    CHINA.resize((90, 60)).save(stream, "JPEG", exif=exif)
    data = stream.getvalue()
    preprocess = ImagePreprocessor(SMALL)
    upright = preprocess.read(data)
    assert upright.size == (60, 90)
    result = train.from_bytes(data, [0, 5])
    np.testing.assert_array_equal(result, train(np.asarray(upright), [0, 5]))
    np.testing.assert_array_equal(result, train.from_host(read(upright), 0, [0, 5]))


def test_train_is_deterministic_in_tf_data(train):
    def dataset(seed):
        ds = tf.data.Dataset.from_tensors(noise(60, 80, 3)).repeat(6)
        ds = ds.enumerate().map(lambda i, image: train(image, [seed, i]), 2)
        assert ds.element_spec.shape.as_list() == [48, 64, 3]
        return ds

    def epoch(ds):
        return [image.tobytes() for image in ds.as_numpy_iterator()]

    first = dataset(seed=1)
    assert epoch(first) == epoch(first)
    assert len({*epoch(first), *epoch(dataset(seed=2))}) == 12


def test_train_without_a_seed_varies(train):
    ds = tf.data.Dataset.from_tensors(np.asarray(CHINA)).repeat(4).map(train)
    assert len({image.tobytes() for image in ds.as_numpy_iterator()}) == 4


def test_a_process_ends_while_a_stream_is_alive():
    """It would wait for its own interpreter."""
    code = (
        "import numpy as np, tensorflow as tf, time\n"
        "from zoo.preprocessing.host import host_call\n"
        "def slow(k):\n"
        "    time.sleep(0.02)\n"
        "    return k\n"
        "ds = tf.data.Dataset.range(10**6).map(lambda k: host_call(slow, [k], tf.int64), 4)\n"
        "iterator = iter(ds.batch(8).prefetch(8))\n"
        "next(iterator)\n"
        "print('done')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "done"
