"""Batches for fine-tuning: what is in them, and that they come again bit for bit."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import zoo
from zoo.errors import InputError, OptionError
from zoo.finetuning.examples import Examples
from zoo.finetuning.pipeline import Augment, evaluation_batches, training_batches
from zoo.finetuning.sampling import Sampler
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.sequence import SequencePreprocessor
from zoo.preprocessing.spec import ImageSpec, SequenceSpec

PATHS = sorted(map(str, (Path(zoo.__file__).parent / "bundled" / "digits").glob("*.png")))
DIGITS = ImagePreprocessor(
    ImageSpec(input_size=(32, 32), channels=1, mean=(0.3,), std=(0.31,), crop_pct=1.0)
)
COLOR = ImagePreprocessor(ImageSpec(input_size=(24, 32)))
CLASSES = tuple("0123456789")
OFF = Augment()
ALL = Augment(
    crop=(0.3, 1.0),
    flip=0.5,
    rand_augment=(2, 9),
    color_jitter=0.3,
    random_erasing=0.5,
    erasing_mode="pixel",
    mixup=0.4,
    cutmix=1.0,
)
# the graphs of the others take a second to make
QUICK = dataclasses.replace(ALL, rand_augment=None, color_jitter=0.0)


def examples_of(inputs=PATHS, **options):
    labels = np.array([k % 10 for k in range(len(inputs))], np.int32)
    names = tuple(f"example {k}" for k in range(len(inputs)))
    return Examples(
        **{"inputs": inputs, "labels": labels, "classes": CLASSES, "names": names, **options}
    )


def stream(examples, augment, preprocess=DIGITS, *, first=0, epochs=1, batch=8, seed=5, **options):
    sampler = Sampler(len(examples), batch, 3, options.pop("lengths", None))
    ds = training_batches(
        examples, preprocess, sampler, augment, seed, options.get("weights"), first, epochs
    )
    return sampler, ds


def arrays(ds):
    return [tuple(np.asarray(part) for part in batch) for batch in ds]


def bits(ds):
    return [tuple(part.tobytes() for part in batch) for batch in arrays(ds)]


# Images


def test_with_all_off_training_sees_what_evaluation_sees():
    examples = examples_of()
    sampler, ds = stream(examples, OFF, epochs=2)
    batches = arrays(ds)
    rows = np.concatenate([sampler.batches(0), sampler.batches(1)])
    assert len(batches) == len(rows) == 2 * (len(PATHS) // 8)
    for (x, y, w), chosen in zip(batches, rows, strict=True):
        np.testing.assert_array_equal(x, DIGITS([PATHS[k] for k in chosen]))
        np.testing.assert_array_equal(y, np.eye(10, dtype=np.float32)[examples.labels[chosen]])
        np.testing.assert_array_equal(w, np.ones(8, np.float32))


def test_shapes_are_known():
    for preprocess, shape in ((DIGITS, [8, 32, 32, 1]), (COLOR, [8, 24, 32, 3])):
        _, ds = stream(examples_of(), QUICK, preprocess)
        assert [s.shape.as_list() for s in ds.element_spec] == [shape, [8, 10], [8]]
        assert {s.dtype for s in ds.element_spec} == {tf.float32}


def test_a_stream_begins_anywhere():
    """A batch follows from the seed, its epoch and its step alone."""
    whole = bits(stream(examples_of(), ALL, epochs=5)[1])
    steps = len(PATHS) // 8
    assert len(whole) == 5 * steps
    assert whole[3 * steps :] == bits(stream(examples_of(), ALL, first=3, epochs=2)[1])
    assert len({x for x, _, _ in whole}) == len(whole)


def test_a_stream_does_not_depend_on_threads(monkeypatch):
    one = bits(stream(examples_of(), QUICK)[1])
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert bits(stream(examples_of(), QUICK)[1]) == one


def test_another_seed_gives_another_stream():
    first, other = (bits(stream(examples_of(), QUICK, seed=seed)[1]) for seed in (5, 6))
    assert not {x for x, _, _ in first} & {x for x, _, _ in other}


@pytest.mark.parametrize("preprocess", [DIGITS, COLOR], ids=["grey", "color"])
def test_every_form_of_an_image_is_the_same_to_it(preprocess):
    def opened(path):
        with Image.open(path) as image:
            image.load()
        return image

    forms = {
        "path": PATHS,
        "bytes": [Path(path).read_bytes() for path in PATHS],
        "lazy": [Image.open(path) for path in PATHS],
        "array": [np.asarray(opened(path))[:, :, None] for path in PATHS],
        "flat": [np.asarray(opened(path)) for path in PATHS],
        "stack": np.stack([np.asarray(opened(path))[:, :, None] for path in PATHS]),
    }
    results = {
        name: bits(stream(examples_of(inputs), QUICK, preprocess)[1])
        for name, inputs in forms.items()
    }
    assert {name for name in forms if results[name] == results["path"]} == set(forms)


def photograph(mode="RGB", size=(70, 50)):
    y, x = np.mgrid[: size[1], : size[0]]
    waves = [128 + 100 * np.sin(x / (3 + k) + y / (7 - k)) for k in range(len(mode))]
    return Image.fromarray(np.uint8(np.stack(waves, -1)), mode if mode != "RGB" else None)


def odd_files(folder):
    """Files that TensorFlow does not read, or not as Pillow does."""
    image = photograph()
    upright = Image.Exif()
    upright[0x0112] = 6
    image.save(folder / "a.webp", quality=90)
    image.save(folder / "b.tiff")
    image.convert("CMYK").save(folder / "c.jpg")
    image.save(folder / "d.jpg", exif=upright)
    image.quantize(32).save(folder / "e.png", transparency=bytes(range(0, 256, 8)))
    image.quantize(32).save(folder / "f.gif", transparency=3)
    image.convert("LA").save(folder / "g.png")
    Image.fromarray(np.arange(3500, dtype=np.uint16).reshape(50, 70) * 18).save(folder / "h.png")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.filterwarnings("ignore:A 16-bit image was scaled")
@pytest.mark.parametrize("spec", [COLOR.spec, dataclasses.replace(COLOR.spec, alpha="white")])
def test_files_are_read_as_pillow_reads_them(tmp_path, spec):
    paths, preprocess = odd_files(tmp_path), ImagePreprocessor(spec)
    examples = examples_of(paths)
    sampler, ds = stream(examples, OFF, preprocess, batch=len(paths))
    order = sampler.batches(0)[0]
    np.testing.assert_array_equal(arrays(ds)[0][0], preprocess([paths[k] for k in order]))
    assert np.isfinite(arrays(stream(examples, ALL, preprocess, batch=4)[1])[0][0]).all()


def test_a_crop_takes_what_it_may_of_a_large_image():
    """One colour ramp: where its levels begin and end tells where the crop lay."""
    ramp = np.broadcast_to(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], (256, 256, 1))
    preprocess = ImagePreprocessor(
        ImageSpec(input_size=(64, 64), channels=1, mean=(0.0,), std=(1.0,), interpolation="box")
    )
    examples = examples_of([ramp.copy()] * 40)
    _, ds = stream(examples, Augment(crop=(0.25, 0.49)), preprocess, epochs=5, batch=40)
    x = 255 * np.concatenate([batch[0] for batch in arrays(ds)])
    widths = x.max((1, 2, 3)) - x.min((1, 2, 3))
    assert 0.25 < (widths / 256).min() < 0.5  # the roots of 0.25 x 3/4 and 0.49 x 4/3 are the ends
    assert 0.65 < (widths / 256).max() < 0.82
    assert len({image.tobytes() for image in x}) > 0.9 * len(x)  # in every epoch others
    assert x.min() < 20
    assert x.max() > 235


def test_flip_alone_shows_either_side():
    sampler, ds = stream(examples_of(), Augment(flip=0.4), epochs=12)
    rows = np.concatenate([sampler.batches(epoch) for epoch in range(12)])
    flipped = []
    for (x, *_), chosen in zip(arrays(ds), rows, strict=True):
        plain = DIGITS([PATHS[k] for k in chosen])
        same, other = ((x == p).all((1, 2, 3)) for p in (plain, plain[:, :, ::-1]))
        assert (same ^ other).all()
        flipped += list(other)
    assert np.mean(flipped) == pytest.approx(0.4, abs=4 * (0.24 / len(flipped)) ** 0.5)


def test_mixed_labels_are_weighed():
    weights = np.linspace(0.5, 2.0, 10).astype(np.float32)
    sampler, ds = stream(examples_of(), Augment(mixup=1.0), epochs=3, weights=weights)
    rows = np.concatenate([sampler.batches(epoch) for epoch in range(3)])
    shares = []
    for (x, y, w), chosen in zip(arrays(ds), rows, strict=True):
        np.testing.assert_allclose(y.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(w, y @ weights, rtol=1e-6)
        own, other = (np.eye(10)[chosen[::step] % 10] for step in (1, -1))
        plain = DIGITS([PATHS[k] for k in chosen])
        pairs = (own != other).any(1)
        share = np.median(y[pairs].max(1)) if pairs.any() else 1.0
        fits = [
            np.allclose(x, s * plain + (1 - s) * plain[::-1], atol=1e-4)
            and np.allclose(y, s * own + (1 - s) * other, atol=1e-5)
            for s in (share, 1 - share)
        ]
        assert any(fits)
        shares.append(share)
    assert np.ptp(shares) > 0.05


def test_a_damaged_file_is_named(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(Path(PATHS[0]).read_bytes()[:60])
    examples = examples_of([str(bad)] * 3, names=("row 1 of a.csv",) * 3)
    with pytest.raises(tf.errors.OpError, match=r"row 1 of a\.csv cannot be decoded"):
        arrays(stream(examples, OFF, batch=2)[1])
    with pytest.raises(tf.errors.OpError, match=r"bad\.png', cannot be decoded"):
        arrays(evaluation_batches(examples, DIGITS, 2))


@pytest.mark.parametrize("preprocess", [DIGITS, COLOR], ids=["grey", "color"])
def test_evaluation_goes_in_order(preprocess):
    examples = examples_of()
    ds = evaluation_batches(examples, preprocess, 7)
    assert ds.element_spec[0].shape.as_list() == [
        None,
        *preprocess.spec.input_size,
        preprocess.spec.channels,
    ]
    batches = arrays(ds)
    assert [len(x) for x, _ in batches][:-1] == [7] * (len(batches) - 1)
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_array_equal(x, preprocess(PATHS))
    np.testing.assert_array_equal(y, np.eye(10, dtype=np.float32)[examples.labels])


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": (0.0, 1.0)}, "crop=.*two shares"),
        ({"crop": (0.5, 0.4)}, "crop=.*two shares"),
        ({"crop": 0.5}, "crop=.*two shares"),
        ({"flip": 1.1}, "flip=1.1: a number from 0 to 1"),
        ({"mixup": -0.1}, "mixup=-0.1: a number from 0"),
        ({"cutmix": "1"}, "cutmix='1': a number from 0"),
        ({"random_erasing": 2}, "random_erasing=2: a number from 0 to 1"),
        ({"color_jitter": float("nan")}, "color_jitter=nan: a number"),
        ({"rand_augment": (2, 11)}, "rand_augment=.*from 0 to 10"),
        ({"rand_augment": (2, -1)}, "rand_augment=.*from 0 to 10"),
        ({"rand_augment": (0, 5)}, "rand_augment=.*whole number from 1"),
        ({"rand_augment": (1.5, 5)}, "rand_augment=.*whole number from 1"),
        ({"rand_augment": "rand-m9"}, "rand_augment=.*layers, magnitude"),
        ({"erasing_mode": "rand"}, "erasing_mode='rand': 'const' or 'pixel'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(OptionError, match=message):
        Augment(**options)


def test_options_go_through_json():
    data = json.loads(json.dumps(dataclasses.asdict(ALL)))
    assert Augment(**data) == ALL
    assert ALL.changes_inputs
    assert not OFF.changes_inputs
    assert not Augment(erasing_mode="pixel").changes_inputs
    for field in dataclasses.fields(Augment):
        if field.name != "erasing_mode":
            assert Augment(**{field.name: getattr(ALL, field.name)}).changes_inputs


# Sequences


TEXTS = ["ab", "abc", "c", "abcab", "bb", "cab", "a", "bcaacb", "aab", "cc", "b"]
LETTERS = SequencePreprocessor(SequenceSpec(vocabulary=tuple("_abc"), padding="_"))
NUMBERS = SequencePreprocessor(
    SequenceSpec(features=2, mean=(1.0, 2.0), std=(2.0, 3.0), padding_value=-9.0)
)
SERIES = [np.arange(2.0 * n).reshape(n, 2) for n in (3, 1, 5, 4, 4, 2, 3)]


@pytest.mark.parametrize(
    ("preprocess", "inputs", "dtype"),
    [(LETTERS, TEXTS, tf.int32), (NUMBERS, SERIES, tf.float32)],
    ids=["tokens", "numbers"],
)
@pytest.mark.parametrize("by_length", [False, True])
def test_sequences(preprocess, inputs, dtype, by_length):
    examples = examples_of(inputs, kind="sequence")
    lengths = np.array(list(map(len, inputs))) if by_length else None
    sampler, ds = stream(examples, OFF, preprocess, epochs=3, batch=3, lengths=lengths)
    assert ds.element_spec[0].dtype == dtype
    assert ds.element_spec[0].shape.as_list()[:2] == [3, None]
    batches = arrays(ds)
    rows = np.concatenate([sampler.batches(epoch) for epoch in range(3)])
    for (x, y, w), chosen in zip(batches, rows, strict=True):
        np.testing.assert_array_equal(x, preprocess([inputs[k] for k in chosen]))
        np.testing.assert_array_equal(y.argmax(1), chosen % 10)
        assert w.tolist() == [1.0] * 3
    assert len({x.shape[1] for x, *_ in batches}) > 1
    steps = len(batches) // 3
    again = stream(examples, OFF, preprocess, first=2, epochs=1, batch=3, lengths=lengths)[1]
    assert bits(ds)[2 * steps :] == bits(again)


@pytest.mark.parametrize(
    ("preprocess", "inputs"), [(LETTERS, TEXTS), (NUMBERS, SERIES)], ids=["tokens", "numbers"]
)
def test_evaluation_of_sequences(preprocess, inputs):
    ds = evaluation_batches(examples_of(inputs, kind="sequence"), preprocess, 3)
    batches = arrays(ds)
    starts = range(0, len(inputs), 3)
    for (x, y), start in zip(batches, starts, strict=True):
        np.testing.assert_array_equal(x, preprocess(inputs[start : start + 3]))
        np.testing.assert_array_equal(y.argmax(1), np.arange(start, start + len(x)) % 10)


def test_sequences_are_encoded_once(monkeypatch):
    calls = []
    encode = SequencePreprocessor.encode
    monkeypatch.setattr(
        SequencePreprocessor, "encode", lambda *args: calls.append(args[1]) or encode(*args)
    )
    arrays(stream(examples_of(TEXTS, kind="sequence"), OFF, LETTERS, epochs=4, batch=3)[1])
    assert calls == TEXTS


def test_sequences_that_a_model_does_not_take():
    with pytest.raises(InputError, match="example 1: The sequence has 'd' as token 1"):
        stream(examples_of(["ab", "ad"], kind="sequence"), OFF, LETTERS, batch=1)
    with pytest.raises(OptionError, match="is for images; sequences are taken as they are"):
        stream(examples_of(TEXTS, kind="sequence"), Augment(mixup=0.2), LETTERS, batch=2)


def test_sequences_without_padding_go_one_at_a_time():
    bare = SequencePreprocessor(SequenceSpec(vocabulary=tuple("abc")))
    examples = examples_of(TEXTS, kind="sequence")
    for make in (
        lambda: stream(examples, OFF, bare, batch=3),
        lambda: evaluation_batches(examples, bare, 3),
    ):
        with pytest.raises(InputError, match=r"from 1 to 6 steps.*knows no padding"):
            make()
    alone = arrays(evaluation_batches(examples, bare, 1))
    assert [x.shape[1] for x, _ in alone] == [len(text) for text in TEXTS]
