"""What callers give for options: labels in every form, numbers of numpy, sizes of whole patches."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from synthetic import as_trained

import zoo
from zoo.errors import InputError, OptionError, ZooError
from zoo.options import count, flag, number, plain, suits
from zoo.registry.labels import as_labels, labels
from zoo.tasks.sampling import Sampling

# ---------------------------------------------------------------- labels

IN_ORDER = {
    "list": ["cat", "dog"],
    "tuple": ("cat", "dog"),
    "array": np.array(["cat", "dog"]),
    "array of objects": np.array(["cat", "dog"], object),
    "numpy's texts": [np.str_("cat"), np.str_("dog")],
    "iterator": iter(["cat", "dog"]),
    "values": {"a": "cat", "b": "dog"}.values(),
    "keys": {"cat": 5, "dog": 5}.keys(),
    "by index": {1: "dog", 0: "cat"},
    "by numpy's index": {np.int64(1): "dog", np.int64(0): "cat"},
    "by index, of JSON": {"1": "dog", "0": "cat"},
    "indices": {"dog": 1, "cat": 0},
    "numpy's indices": {"dog": np.int32(1), "cat": np.int32(0)},
}


@pytest.mark.parametrize("given", IN_ORDER.values(), ids=IN_ORDER)
def test_labels_in_their_order(given):
    found = as_labels(given)
    assert found == ("cat", "dog")
    assert {type(name) for name in found} == {str}


def test_names_that_are_digits():
    assert as_labels(range(3)) == as_labels(np.arange(3)) == ("0", "1", "2")
    assert as_labels({"7": 1, "3": 0}) == ("3", "7")
    assert as_labels({"0": "7", "1": "3"}) == ("7", "3")


def test_names_of_imagenet_may_be_there_twice():
    names = labels("imagenet-1k")
    assert as_labels(list(names)) == names
    with pytest.raises(OptionError, match=r"'crane' 2 times, at the places 134, 517"):
        as_labels([*names[:-1], "another"])


REFUSED = {
    "text": ("cat", "a list of names was expected"),
    "bytes": (b"cat", "a list of names was expected"),
    "number": (2, "a list of names was expected"),
    "set": ({"cat", "dog"}, "no order"),
    "frozenset": (frozenset({"cat"}), "no order"),
    "bytes inside": ([b"cat", b"dog"], r"b'cat' \(bytes\) at place 0"),
    "array of bytes": (np.array([b"cat", b"dog"]), r"b'cat' \(bytes\) at place 0"),
    "texts and numbers": (["cat", 3], r"3 \(int\) at place 1"),
    "bools": ([True, False], r"True \(bool\)"),
    "floats": ([0.0, 1.0], r"0\.0 \(float\)"),
    "none": (["cat", None], r"None \(NoneType\) at place 1"),
    "nothing": ([], "labels is empty"),
    "no text": (["cat", " "], "' ' at place 1"),
    "lines": (["cat\n", "dog\n"], r"'cat\\n' at place 0"),
    "twice": (["cat", "dog", "cat"], "'cat' 2 times, at the places 0, 2"),
    "table": (np.array([["cat", "dog"]]), "2 axes"),
    "a gap": ({0: "cat", 2: "dog"}, "indices 0, 2"),
    "from 1": ({1: "cat", 2: "dog"}, "indices 1, 2"),
    "one index for two": ({"cat": 0, "dog": 0}, "indices 0, 0"),
    "an index in two forms": ({0: "cat", "0": "dog"}, "indices 0, 0"),
    "names by name": ({"cat": "dog"}, "names by index"),
    "numbers by number": ({0: 1, 1: 0}, "names by index"),
    "bools by name": ({"cat": False, "dog": True}, "names by index"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_labels_that_do_not_say_their_order(given, message):
    with pytest.raises(OptionError, match=message):
        as_labels(given)


def test_lines_of_a_file(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with (tmp_path / "labels.txt").open() as file, pytest.raises(OptionError, match="splitlines"):
        as_labels(file)


def test_labels_of_a_model(tmp_path):
    model = zoo.load("test_resnet", pretrained=False, labels={"dog": 1, "cat": 0})
    assert model.labels == ("cat", "dog")
    assert model.output_shape == (None, 2)
    again = zoo.load(zoo.save(model, tmp_path / "m"), labels={0: "Katze", 1: "Hund"})
    assert again.labels == ("Katze", "Hund")
    np.testing.assert_array_equal(again.get_layer("fc").kernel, model.get_layer("fc").kernel)
    for options in ({"num_classes": 0}, {"features_only": True}):
        with pytest.raises(OptionError, match="would have no classes"):
            zoo.load("test_resnet", pretrained=False, labels=["a"], **options)


# ---------------------------------------------------------------- numbers

TAKEN = [
    ({"num_classes": np.int64(3)}, (None, None, None, 3), (None, 3)),
    ({"num_classes": np.array(3)}, (None, None, None, 3), (None, 3)),
    ({"input_size": np.int64(64)}, (None, 64, 64, 3), (None, 1000)),
    ({"input_size": np.array([64, 32])}, (None, 64, 32, 3), (None, 1000)),
    ({"input_size": [np.int32(64), 32]}, (None, 64, 32, 3), (None, 1000)),
    ({"in_channels": np.int16(1)}, (None, None, None, 1), (None, 1000)),
    ({"drop_rate": np.float32(0.25)}, (None, None, None, 3), (None, 1000)),
    ({"layers": np.array([1, 1, 1, 1])}, (None, None, None, 3), (None, 1000)),
    ({"dtype": np.str_("float32")}, (None, None, None, 3), (None, 1000)),
]


@pytest.mark.parametrize(("options", "inputs", "outputs"), TAKEN, ids=lambda v: str(v)[:40])
def test_numbers_of_numpy_are_taken_and_saved(tmp_path, options, inputs, outputs):
    model = zoo.load("test_resnet", pretrained=False, **options)
    assert (model.input_shape, model.output_shape) == (inputs, outputs)
    json.dumps(model.get_config()["zoo"])
    model.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").card == model.card
    again = zoo.load(zoo.save(model, tmp_path / "folder"))
    assert again.output_shape == outputs


@pytest.mark.parametrize("indices", [np.int64(2), np.array([-2, -1]), [np.int8(3), 4]])
def test_maps_by_numbers_of_numpy(indices):
    maps = zoo.load(
        "test_resnet", pretrained=False, features_only=np.bool_(True), out_indices=indices
    )
    assert [f.name for f in maps.feature_info] == ["layer3", "layer4"]


@pytest.mark.parametrize(
    "options",
    [
        *({"num_classes": value} for value in (3.0, True, np.float32(3), np.bool_(True), "3", [3])),
        *({"input_size": value} for value in (64.0, True, "64", (64, 32.5), (64, 0), [])),
        *({"in_channels": value} for value in (1.0, False, "1")),
        *({"drop_rate": value} for value in (True, "0.1", 1.5, -0.1, np.nan)),
        *({"features_only": True, "out_indices": value} for value in (1.0, True, [1.5], "12")),
        *({"features_only": value} for value in (1, "yes")),
        *({"layers": value} for value in (3, (1, 1.5, 1, 1), "1111")),
        *({"base_width": value} for value in (64.5, np.float64(64), True, "64")),
        {"pretrained": "no"},
    ],
    ids=str,
)
def test_what_is_no_number_is_an_error_of_ours(options):
    with pytest.raises(OptionError):
        zoo.load("test_resnet", **{"pretrained": False} | options)


@pytest.fixture(scope="module")
def digits():
    return zoo.load("resnet_mini")


def test_numbers_of_numpy_for_verbs(digits):
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)
    images = [np.array(image) for image in images]
    one, three = np.int64(1), np.int32(3)
    found = digits.classify(images, top=three, batch_size=one)
    assert [len(row) for row in found] == [3, 3, 3]
    np.testing.assert_allclose(digits.embed(images, batch_size=three), digits.embed(images), 1e-4)
    assert digits.explain(images[0], target=three)[0].index == 3
    least = np.float32(4.9e4)
    assert zoo.list_models(max_params=np.float32(1e6), min_params=least) == zoo.list_models(
        max_params=1e6, min_params=4.9e4
    )
    for wrong in (1.0, True, "1", 0, [1], None):
        for options in ({"top": wrong}, {"batch_size": wrong}):
            with pytest.raises(ZooError):
                digits.classify(images, **options)
    with pytest.raises(OptionError, match="target=True"):
        digits.explain(images[0], target=True)


def test_numbers_of_numpy_for_training(digits):
    images = [np.full((32, 32), 20 * k, np.uint8) for k in range(8)]
    names = ["low"] * 4 + ["high"] * 4
    options = {"epochs": np.int64(1), "batch_size": np.int32(4), "seed": np.int64(3)}
    options |= {"learning_rate": np.float32(1e-3), "class_weights": np.array([1.0, 2.0])}
    result = zoo.finetune(digits, (images, names), strategy="head", **options)
    assert result.model.labels == ("high", "low")
    assert result.model.fresh == ()
    wrong = ({"epochs": 1.5}, {"seed": True}, {"batch_size": 4.0}, {"learning_rate": "1e-3"})
    for options in (*wrong, {"warmup": True}, {"class_weights": {"low", "high"}}):
        with pytest.raises(ZooError):
            zoo.finetune(digits, (images, names), strategy="head", **options)


def test_numbers_of_numpy_for_text():
    drawn = Sampling(temperature=np.float32(0.5), top_k=np.int64(2), top_p=np.float64(0.9))
    assert drawn == Sampling(temperature=0.5, top_k=2, top_p=0.9)
    for options in ({"top_k": 2.0}, {"top_k": True}, {"temperature": "1"}, {"top_p": True}):
        with pytest.raises(OptionError):
            Sampling(**options)


def test_plain_values():
    given = {"a": np.float32(0.5), "b": [np.int8(1), np.array([1, 2])], "c": np.str_("x")}
    assert plain(given) == {"a": 0.5, "b": (1, (1, 2)), "c": "x"}
    assert type(plain(np.bool_(True))) is bool
    assert plain(None) is None


def test_what_suits_an_annotation():
    assert suits(1, float)
    assert suits(224, tuple[int, int])
    assert suits((1, 2, 3), tuple[int, ...])
    assert suits(None, str | None)
    assert not suits(True, int | None)
    assert not suits(1.0, int)
    assert not suits((1, 2, 3), tuple[int, int])
    assert not suits((1, "2"), tuple[int, ...])


def test_the_errors_of_numbers():
    with pytest.raises(OptionError, match=r"epochs must be a whole number; got 1\.5\. Take 2\."):
        count("epochs", 1.5, hint=" Take 2.")
    with pytest.raises(InputError, match="top must be at least 1; got 0"):
        count("top", 0, error=InputError)
    with pytest.raises(OptionError, match="rate is nan; a share, 0 to 1, expected"):
        number("rate", np.float32("nan"), 0, 1, unit="a share")
    with pytest.raises(OptionError, match="strict must be True or False; got 1"):
        flag("strict", 1)


# ---------------------------------------------------------------- sizes and patches


@pytest.fixture(scope="module")
def dynamic():
    return zoo.load("test_vit", pretrained=False, num_classes=2)


def zeros(height, width):
    return np.zeros((1, height, width, 3), np.float32)


def test_sizes_beside_the_patches_are_refused_as_by_timm(dynamic):
    assert dynamic(zeros(48, 32)).shape == (1, 2)
    for height, width in ((175, 160), (160, 165)):
        with pytest.raises(InputError, match=f"{height} x {width} pixels are not whole patches"):
            dynamic(zeros(height, width))
        with pytest.raises(InputError, match="not whole patches"):
            dynamic.predict(zeros(height, width), verbose=0)
    padded = zoo.load("test_vit", pretrained=False, num_classes=2, dynamic_img_pad=True)
    assert padded(zeros(50, 33)).shape == (1, 2)


def test_sizes_that_are_known_late(dynamic):
    late = tf.function(dynamic, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_allclose(late(zeros(48, 32)), dynamic(zeros(48, 32)), 1e-4, 1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole patches of 16"):
        late(zeros(48, 33))


def test_the_input_size_is_the_models_input(tmp_path):
    model = zoo.load("test_vit", pretrained=False, num_classes=2, input_size=(48, 64))
    assert model.input_shape == (None, 48, 64, 3)
    assert model.card.preprocessing.input_size == (48, 64)
    image = np.zeros((20, 20, 3), np.uint8)
    assert model.preprocess(image).shape == (1, 48, 64, 3)
    again = zoo.load(zoo.save(as_trained(model), tmp_path / "m"))
    assert again.input_shape == (None, None, None, 3)  # of any size, as the network is
    assert again.card.preprocessing.input_size == (48, 64)
    x = zeros(48, 64)
    np.testing.assert_allclose(again(x), model(x), 1e-4, 1e-5)
    with pytest.raises(InputError, match="50 x 64 pixels are not whole patches"):
        zoo.load("test_vit", pretrained=False, input_size=(50, 64))


def test_a_network_for_one_size_says_what_it_leaves_out():
    options = {"pretrained": False, "depth": 1, "num_classes": 2}
    with pytest.warns(UserWarning, match="8 rows and 0 columns of pixels are left out"):
        model = zoo.load("vit_tiny_patch16_224", input_size=(40, 32), **options)
    assert model.input_shape == (None, 40, 32, 3)


def test_dinov2_of_transformers_leaves_the_rest_out_as_there():
    small = {"embed_dim": 24, "num_heads": 2, "depth": 1, "img_size": (28, 28)}
    model = zoo.load("dinov2", pretrained=False, **small)
    x = np.random.default_rng(0).normal(size=(1, 35, 28, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x), model(x[:, :28]))
