"""transformers' `preprocessor_config.json`: read as a spec, written from one."""

import json
import math
from dataclasses import replace

import pytest

from zoo.errors import ConfigError
from zoo.preprocessing.spec import ImageSpec
from zoo.registry.dialects import transformers_dialect
from zoo.registry.preprocessor_config import (
    image_spec_from_preprocessor,
    preprocessor_from_image_spec,
)

HALF = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
CLIP = {
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
SHORTER_EDGE = ImageSpec(crop_pct=1.0, crop_rounding="floor", alpha="white", **CLIP)


def read(data, model_type="vit"):
    processor = processor_of(model_type)
    return image_spec_from_preprocessor(data, origin="org/model", processor=processor)


def processor_of(model_type):
    return transformers_dialect(model_type)[1].processor


# Reading


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("vit", ImageSpec(crop_pct=1.0, crop_mode="squash", interpolation="bilinear", **HALF)),
        ("deit", ImageSpec(crop_pct=0.875, crop_mode="squash", crop_rounding="floor", **HALF)),
        ("dinov2", SHORTER_EDGE),
        ("dinov2_with_registers", SHORTER_EDGE),
        ("clip", SHORTER_EDGE),
        ("siglip", ImageSpec(crop_pct=1.0, crop_mode="squash", alpha="white", **HALF)),
    ],
)
def test_defaults_of_the_model_type(model_type, expected):
    assert read({}, model_type) == expected


@pytest.mark.parametrize(
    "named",
    [
        {"image_processor_type": "CLIPImageProcessor"},
        {"image_processor_type": "CLIPImageProcessorFast"},
        {"image_processor_type": "CLIPImageProcessorPil"},
        {"feature_extractor_type": "CLIPFeatureExtractor"},
        {"image_processor_type": "CLIPImageProcessor", "feature_extractor_type": "ViTFeatureE"},
    ],
)
def test_the_class_of_the_file_wins(named):
    assert read(named, model_type="vit") == SHORTER_EDGE


@pytest.mark.parametrize(
    ("model_type", "data", "expected"),
    [
        ("vit", {"size": 384}, {"input_size": (384, 384), "crop_mode": "squash"}),
        ("vit", {"size": [96, 160]}, {"input_size": (96, 160), "crop_mode": "squash"}),
        (
            "clip",
            {"size": 256, "crop_size": 224},
            {"input_size": (224, 224), "crop_mode": "center", "crop_pct": 0.875},
        ),
        (
            "clip",
            {"size": 256, "crop_size": 224, "default_to_square": True},
            {"input_size": (224, 224), "crop_mode": "squash", "crop_pct": 0.875},
        ),
        (
            "siglip",
            {"size": {"shortest_edge": 96}, "do_center_crop": True, "crop_size": [96, 96]},
            {"input_size": (96, 96), "crop_mode": "center", "crop_rounding": "floor"},
        ),
        (
            "deit",
            {"do_resize": False},
            {"input_size": (224, 224), "resize": False, "crop_rounding": "floor"},
        ),
        ("deit", {"do_center_crop": None}, {"input_size": (256, 256), "crop_rounding": "even"}),
        ("deit", {"size": 224}, {"input_size": (224, 224), "crop_rounding": "even"}),
        ("vit", {"resample": 1}, {"interpolation": "lanczos"}),
        ("vit", {"resample": "BICUBIC"}, {"interpolation": "bicubic"}),
        ("vit", {"do_convert_rgb": True}, {"alpha": "white"}),
        ("clip", {"do_convert_rgb": None}, {"alpha": "drop"}),
        ("vit", {"rescale_factor": 1 / 127.5}, {"mean": (0.25,) * 3, "std": (0.25,) * 3}),
        ("vit", {"do_normalize": False}, {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ("vit", {"do_rescale": False}, {"mean": (0.5 / 255,) * 3, "std": (0.5 / 255,) * 3}),
        (
            "vit",
            {"do_rescale": False, "do_normalize": False, "rescale_factor": None},
            {"mean": (0.0,) * 3, "std": (1 / 255,) * 3},
        ),
        ("vit", {"image_mean": 0.25}, {"mean": (0.25,) * 3, "std": (0.5,) * 3}),
        (
            "vit",
            {"image_mean": [0.25], "image_std": 0.125},
            {"channels": 1, "mean": (0.25,), "std": (0.125,)},
        ),
    ],
)
def test_values(model_type, data, expected):
    spec = read(data, model_type)
    assert {name: getattr(spec, name) for name in expected} == expected


def test_every_shorter_edge_is_met_exactly():
    """Also where `crop / (crop / size)` rounds below the size."""
    nudged = 0
    for size in range(1, 600):
        for crop in (1, 97, 224, 336, 601):
            spec = read({"size": size, "crop_size": crop}, "clip")
            assert spec.scale_size == (size, size)
            nudged += spec.crop_pct != crop / size
    assert nudged > 0


def test_keys_without_effect_are_passed_over_and_unknown_ones_warned_of():
    known = {
        "processor_class": "CLIPProcessor",
        "data_format": "channels_first",
        "input_data_format": None,
        "return_tensors": None,
        "device": None,
        "disable_grouping": None,
        "_valid_processor_keys": ["images", "do_resize"],
        "pad_size": None,
        "do_pad": False,
    }
    assert read(known, "clip") == SHORTER_EDGE
    with pytest.warns(UserWarning, match=r"org/model/preprocessor_config.json: ignored 'crop_pct'"):
        assert read({"crop_pct": 0.9}, "clip") == SHORTER_EDGE


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "should hold an object; it holds a list"),
        ({"image_processor_type": "VitImageProcessor"}, "Did you mean 'ViTImageProcessor'"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "does not do the preprocessing of"),
        ({"size": {"shortest_edge": 224}}, "images come in all sizes.*Switch do_center_crop on"),
        ({"do_resize": False}, "With do_resize off and do_center_crop off"),
        ({"size": {"longest_edge": 224}}, "size is {'longest_edge': 224}"),
        ({"size": {"shortest_edge": 224, "longest_edge": 300}}, "shortest_edge alone"),
        ({"size": {"height": 224, "width": None}}, "whole pixels were expected"),
        ({"size": None}, "size is None"),
        ({"size": 0}, "size is 0"),
        ({"size": True}, "size is True"),
        ({"size": 224.0}, "size is 224.0"),
        ({"size": [224]}, r"size is \[224\]"),
        ({"do_center_crop": True}, "crop_size is None"),
        ({"do_center_crop": True, "crop_size": {"shortest_edge": 9}}, "needs height and width"),
        ({"do_center_crop": True, "crop_size": [224, 112]}, "another share of the height"),
        ({"resample": None}, r"resample is None; expected one of 0 \(nearest\), 1 \(lanczos\)"),
        ({"resample": 6}, "resample is 6"),
        ({"resample": "cubic"}, "resample is 'cubic'"),
        ({"resample": True}, "resample is True"),
        ({"do_resize": "yes"}, "do_resize is 'yes'; true or false"),
        ({"do_pad": True}, "do_pad is true, which zoo does not do"),
        ({"use_square_size": True}, "use_square_size is true"),
        ({"rescale_factor": 0}, "rescale_factor is 0; a positive number"),
        ({"rescale_factor": None}, "rescale_factor is None"),
        ({"image_mean": [0.5, 0.5]}, r"image_mean is \[0.5, 0.5\]; a number, or one per channel"),
        ({"image_mean": None}, "image_mean is None"),
        ({"image_std": [0.5, 0.5, "a"]}, "image_std is"),
        ({"image_std": 0}, "normalisation divides by it"),
        ({"do_convert_rgb": True, "image_mean": [0], "image_std": [1]}, "gives 3 channels"),
    ],
)
def test_refused(data, message):
    with pytest.raises(ConfigError, match=f"^org/model/preprocessor_config.json.*{message}"):
        read(data)


def test_unknown_model_type():
    with pytest.raises(ConfigError, match=r"model_type is 'siglib'.*Did you mean 'siglip'"):
        transformers_dialect("siglib")


# Writing


def test_the_file_that_is_written():
    spec = read({"size": {"shortest_edge": 256}}, "dinov2")
    assert preprocessor_from_image_spec(spec, processor=processor_of("dinov2")) == {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 256},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CLIP["mean"]),
        "image_std": list(CLIP["std"]),
        "do_convert_rgb": True,
    }


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "clip", "siglip"])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"size": 97, "crop_size": 96, "do_center_crop": True},
        {"size": [96, 160], "do_center_crop": False},
        {"size": [120, 200], "crop_size": [105, 175], "do_center_crop": True},
        {"do_resize": False, "crop_size": [31, 40], "do_center_crop": True, "resample": 5},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
        {"do_rescale": False},
        {"image_mean": 0.3, "image_std": 0.7, "do_convert_rgb": False},
        {"image_mean": [0.3], "image_std": [0.7], "do_convert_rgb": False},
    ],
)
def test_round_trip(model_type, data):
    spec = read(data, model_type)
    data = preprocessor_from_image_spec(spec, processor=processor_of(model_type))
    written = json.loads(json.dumps(data))
    assert read(written, model_type) == spec


def test_a_spec_of_timm_that_squashes_to_its_size_can_be_said():
    spec = ImageSpec(crop_mode="squash", crop_pct=1.0, fixed_input_size=True)
    written = preprocessor_from_image_spec(spec, processor=processor_of("vit"))
    assert read(written) == replace(spec, fixed_input_size=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "crop_rounding 'even'"),
        ({"crop_mode": "squash"}, "crop_rounding 'even'"),
        ({"crop_mode": "border", "crop_rounding": "floor"}, "the resize of crop_mode 'border'"),
        (
            {"input_size": (224, 160), "crop_rounding": "floor"},
            r"the resize of crop_mode 'center' to input_size \(224, 160\)",
        ),
        ({"channel_order": "bgr", "crop_rounding": "floor"}, "channel_order 'bgr'"),
    ],
)
def test_what_the_file_cannot_say(options, message):
    with pytest.raises(ConfigError, match=f"cannot say {message}"):
        preprocessor_from_image_spec(ImageSpec(**options), processor=processor_of("vit"))


def test_scale_of_a_published_file_is_exact():
    """1/255 as JSON prints it moves neither mean nor std in the last bit."""
    assert math.isclose(float("0.00392156862745098"), 1 / 255, rel_tol=0, abs_tol=0)
    assert read({"rescale_factor": 0.00392156862745098}, "clip").std == CLIP["std"]
