"""Host and graph preprocessing against transformers' image processors, live, on photographs.

The reference is the Pillow backend, which zoo equals to float32 rounding. The torchvision backend
resizes with weights of 16 bits in place of Pillow's 22; how far it is from both is measured.
"""

import json
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reference import torch
from test_preprocessing_timm import AWKWARD, PHOTOGRAPHS, picture

from zoo.errors import ConfigError
from zoo.preprocessing.image import ImagePreprocessor
from zoo.registry.dialects import transformers_dialect
from zoo.registry.preprocessor_config import (
    DEFAULTS,
    image_spec_from_preprocessor,
    preprocessor_from_image_spec,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the reference's own imports
    import transformers
    from transformers import AutoImageProcessor

assert torch is not None  # imported first, it makes torchvision importable

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
ALL = {"do_resize": True, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
SQUARE = {"height": 224, "width": 224}

# As the files of published models are, in their older and newer forms.
PUBLISHED = {
    "vit": (
        "vit",
        {
            **ALL,
            **HALF,
            "image_processor_type": "ViTImageProcessor",
            "resample": 2,
            "size": SQUARE,
        },
    ),
    "vit of 384, old": (
        "vit",
        {
            **HALF,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "ViTFeatureExtractor",
            "resample": 2,
            "size": 384,
        },
    ),
    "vit, fast": (
        "vit",
        {
            **ALL,
            **HALF,
            "image_processor_type": "ViTImageProcessorFast",
            "resample": 2,
            "size": SQUARE,
            "crop_size": None,
            "data_format": "channels_first",
            "default_to_square": True,
            "device": None,
            "disable_grouping": None,
            "do_center_crop": None,
            "do_convert_rgb": None,
            "input_data_format": None,
            "return_tensors": None,
        },
    ),
    "deit": (
        "deit",
        {
            **IMAGENET,
            "crop_size": 224,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "DeiTFeatureExtractor",
            "resample": 3,
            "size": 256,
        },
    ),
    "dinov2": (
        "dinov2",
        {
            **ALL,
            **IMAGENET,
            "crop_size": SQUARE,
            "do_center_crop": True,
            "do_convert_rgb": True,
            "image_processor_type": "BitImageProcessor",
            "resample": 3,
            "size": {"shortest_edge": 256},
        },
    ),
    "dinov2 with registers": (
        "dinov2_with_registers",
        {
            **ALL,
            **IMAGENET,
            "crop_size": SQUARE,
            "do_center_crop": True,
            "do_convert_rgb": True,
            "image_processor_type": "BitImageProcessorFast",
            "resample": 3,
            "size": {"shortest_edge": 256},
        },
    ),
    "clip": (
        "clip",
        {
            **CLIP,
            "crop_size": 224,
            "do_center_crop": True,
            "do_normalize": True,
            "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "resample": 3,
            "size": 224,
        },
    ),
    "clip of 336": (
        "clip",
        {
            **ALL,
            **CLIP,
            "crop_size": {"height": 336, "width": 336},
            "do_center_crop": True,
            "do_convert_rgb": True,
            "image_processor_type": "CLIPImageProcessor",
            "resample": 3,
            "size": {"shortest_edge": 336},
        },
    ),
    "siglip": (
        "siglip",
        {
            **ALL,
            **HALF,
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "resample": 3,
            "size": SQUARE,
        },
    ),
    "siglip so400m": (
        "siglip",
        {
            **ALL,
            **HALF,
            "do_convert_rgb": None,
            "image_processor_type": "SiglipImageProcessor",
            "resample": 3,
            "size": {"height": 384, "width": 384},
        },
    ),
}
ODD = {"shortest_edge": 97}
AWKWARD_CONFIGS = {
    "nothing, vit": ("vit", {}),
    "nothing, deit": ("deit", {}),
    "nothing, dinov2": ("dinov2", {}),
    "nothing, clip": ("clip", {}),
    "nothing, siglip": ("siglip", {}),
    "the class alone": ("dinov2_with_registers", {"image_processor_type": "BitImageProcessor"}),
    "another class": ("vit", {"image_processor_type": "DeiTImageProcessorFast"}),
    "resample of a class": ("siglip", {"image_processor_type": "ViTImageProcessor", "size": 96}),
    "crop alone": ("clip", {"do_resize": False, "crop_size": 225}),
    "crop alone, of an odd rectangle": (
        "vit",
        {"do_resize": False, "do_center_crop": True, "crop_size": [151, 98], "resample": None},
    ),
    "odd crop of odd": ("clip", {"size": ODD, "crop_size": 64}),
    "even crop of odd": ("dinov2", {"size": {"shortest_edge": 96}, "crop_size": 61}),
    "crop that pads": ("clip", {"size": ODD, "crop_size": 110}),
    "crop that pads one edge": ("clip", {"size": ODD, "crop_size": 128}),
    "squash that pads": ("deit", {"size": 90, "crop_size": 101}),
    "squash, odd": ("deit", {"size": {"height": 111, "width": 111}, "crop_size": 98}),
    "squash, rectangles": ("deit", {"size": [120, 200], "crop_size": [105, 175]}),
    "rectangle": ("vit", {"size": {"height": 97, "width": 161}}),
    "height, width in a list": ("siglip", {"size": [97, 64]}),
    "a number in place of the shorter edge": (
        "siglip",
        {"size": 97, "do_center_crop": True, "crop_size": 95},
    ),
    "square by flag": ("clip", {"size": 97, "default_to_square": True, "crop_size": 96}),
    "shorter edge by flag": (
        "deit",
        {"size": 97, "default_to_square": False, "crop_size": 88},
    ),
    "-1 to 1": ("vit", {"rescale_factor": 1 / 127.5, "do_normalize": False}),
    "0 to 2, normalised": ("vit", {"rescale_factor": 1 / 127.5}),
    "0 to 1": ("siglip", {"do_normalize": False, "image_mean": None}),
    "0 to 255": ("deit", {"do_rescale": False, "do_normalize": False}),
    "levels, normalised": (
        "vit",
        {"do_rescale": None, "image_mean": [127.5, 120.0, 110.0], "image_std": [60, 61, 62]},
    ),
    "one number for all channels": ("vit", {"image_mean": 0.4, "image_std": 0.3}),
    "nearest": ("vit", {"resample": 0}),
    "lanczos": ("clip", {"resample": 1}),
    "box": ("clip", {"resample": 4}),
    "hamming": ("deit", {"resample": 5}),
}
CONFIGS = {**PUBLISHED, **AWKWARD_CONFIGS}
SIZES = [(333, 217), (301, 223), (224, 225), (97, 97), (61, 400), (1411, 96), (50, 31)]


def processor(folder, model_type, config, backend):
    """The reference's image processor for a folder with this `preprocessor_config.json`."""
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return AutoImageProcessor.from_pretrained(folder, backend=backend)


def reference(process, image):
    """What the reference makes of one picture, channels last."""
    return np.asarray(process(image, return_tensors="np")["pixel_values"])[0].transpose(1, 2, 0)


def spec_of(model_type, config):
    processor = processor_of(model_type)
    return image_spec_from_preprocessor(config, origin="org/model", processor=processor)


def processor_of(model_type):
    return transformers_dialect(model_type)[1].processor


def assert_equal_to_rounding(ours, theirs):
    """Within 1e-6, or for values above 1, which come of files that do not rescale, 1e-6 of them."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def sample():
    """A photograph in odd sizes, then all photographs as they are."""
    return [
        *(picture(PHOTOGRAPHS[0]).resize(size) for size in SIZES),
        *map(picture, PHOTOGRAPHS),
    ]


@pytest.mark.parametrize("name", CONFIGS)
def test_photographs(tmp_path, name):
    model_type, config = CONFIGS[name]
    process = processor(tmp_path, model_type, config, "pil")
    assert process.backend == "pil"
    images = sample() if name in PUBLISHED else sample()[: len(SIZES) + 3]
    preprocess = ImagePreprocessor(spec_of(model_type, config))
    for image, ours in zip(images, preprocess(images), strict=True):
        assert_equal_to_rounding(ours, reference(process, image))


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_within_a_millionth(tmp_path, name):
    """With no allowance for large values: these are all between -3 and 3."""
    model_type, config = PUBLISHED[name]
    image = picture(PHOTOGRAPHS[1])
    theirs = reference(processor(tmp_path, model_type, config, "pil"), image)
    assert np.abs(ImagePreprocessor(spec_of(model_type, config))(image)[0] - theirs).max() < 1e-6


@pytest.mark.parametrize("name", CONFIGS)
def test_the_graph_follows_the_host(name):
    model_type, config = CONFIGS[name]
    preprocess = ImagePreprocessor(spec_of(model_type, config))
    graph = tf.function(
        preprocess.graph, input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)]
    )
    for image in sample()[:: 6 if name in PUBLISHED else 3]:
        result, expected = graph(np.asarray(image)), preprocess(image)[0]
        off = np.abs(result - expected) * np.asarray(preprocess.spec.std, np.float32) * 255
        assert off.max() < 1.001
        assert np.mean(off.max(axis=-1) == 0) >= 0.999


@pytest.mark.parametrize("form", AWKWARD)
@pytest.mark.parametrize("name", ["clip", "dinov2", "siglip", "crop alone", "crop that pads"])
def test_awkward_pictures(tmp_path, name, form):
    """Greyscale, palettes and transparency too: the reference lays what is transparent on white."""
    model_type, config = CONFIGS[name]
    image = AWKWARD[form](picture(PHOTOGRAPHS[0]))
    theirs = reference(processor(tmp_path, model_type, config, "pil"), image)
    preprocess = ImagePreprocessor(spec_of(model_type, config))
    ours = preprocess(image)
    assert_equal_to_rounding(ours[0], theirs)
    if image.mode in ("L", "RGBA"):  # as arrays, which the reference does not take for grey
        array = np.asarray(image)
        np.testing.assert_array_equal(preprocess(array), ours)
        pixels = array if array.ndim == 3 else array[:, :, None]
        np.testing.assert_array_equal(preprocess.graph(pixels), ours[0])


@pytest.mark.parametrize("transparency", [5, bytes(range(0, 240, 4))])
def test_transparency_beside_the_pixels(tmp_path, transparency):
    flat = picture(PHOTOGRAPHS[0]).quantize(60)
    flat.info["transparency"] = transparency
    theirs = reference(processor(tmp_path, "clip", {}, "pil"), flat)
    assert_equal_to_rounding(ImagePreprocessor(spec_of("clip", {}))(flat)[0], theirs)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_colours_without_conversion(tmp_path, mode):
    """The reference refuses them, or their statistics do; zoo converts."""
    image = picture(PHOTOGRAPHS[0]).convert(mode)
    process = processor(tmp_path, "vit", {}, "pil")
    with pytest.raises(ValueError, match="mean must have"):
        process(image)
    expected = reference(process, image.convert("RGB"))
    assert_equal_to_rounding(ImagePreprocessor(spec_of("vit", {}))(image)[0], expected)


def test_one_channel(tmp_path):
    config = {"image_mean": [0.4], "image_std": [0.2], "size": 97}
    grey = picture(PHOTOGRAPHS[0]).convert("L")
    theirs = reference(processor(tmp_path, "vit", config, "pil"), grey)
    assert_equal_to_rounding(ImagePreprocessor(spec_of("vit", config))(grey)[0], theirs)


# Writing


@pytest.mark.parametrize("name", CONFIGS)
def test_round_trip(tmp_path, name):
    model_type, config = CONFIGS[name]
    spec = spec_of(model_type, config)
    data = preprocessor_from_image_spec(spec, processor=processor_of(model_type))
    written = json.loads(json.dumps(data))
    assert spec_of(model_type, written) == spec
    images = sample()[: len(SIZES) + 1]
    before = processor(tmp_path, model_type, config, "pil")
    expected = [reference(before, image) for image in images]
    after = processor(tmp_path, model_type, written, "pil")
    for image, theirs in zip(images, expected, strict=True):
        assert_equal_to_rounding(reference(after, image), theirs)
    if spec.interpolation not in ("box", "hamming"):  # which torchvision does not have
        by_default = processor(tmp_path, model_type, written, None)
        assert by_default.backend == "torchvision"
        shape = reference(by_default, images[0]).shape
        assert shape == (*spec.input_size, spec.channels)


@pytest.mark.parametrize("size", [96, 225, (98, 64)])
@pytest.mark.parametrize("name", ["vit", "deit", "siglip", "dinov2", "clip", "crop alone"])
def test_at_another_size(tmp_path, name, size):
    """What the file says of a spec at another size is what the spec does."""
    model_type, config = CONFIGS[name]
    spec = spec_of(model_type, config).at_size(size)
    if spec.crop_mode == "center" and spec.resize and isinstance(size, tuple):
        with pytest.raises(ConfigError, match="cannot say the resize"):
            preprocessor_from_image_spec(spec, processor=processor_of(model_type))
        return
    written = preprocessor_from_image_spec(spec, processor=processor_of(model_type))
    process = processor(tmp_path, model_type, written, "pil")
    for image in sample()[: len(SIZES) + 1]:
        assert_equal_to_rounding(ImagePreprocessor(spec)(image)[0], reference(process, image))


# What the module says of the reference


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("backend", ["", "Pil"])
def test_defaults_are_those_of_the_classes(name, backend):
    theirs = getattr(transformers, name + backend)
    for key, ours in DEFAULTS[name].items():
        given = getattr(theirs, key, None)
        given = tuple(given) if isinstance(given, list) else given
        assert (given or False) == (ours or False), key


@pytest.mark.parametrize(
    "config",
    [
        {"resample": None},
        {"size": None},
        {"rescale_factor": None},
        {"image_std": None},
        {"do_center_crop": True, "crop_size": None},
        {"do_center_crop": True},
        {"size": {"height": 224}},
        {"size": {"shortest_edge": 224, "height": 224, "width": 224}},
        {"image_mean": [0.5]},
        {"image_mean": [0.5] * 4},
    ],
)
def test_what_the_reference_refuses_zoo_refuses(tmp_path, config):
    with pytest.raises((ValueError, KeyError, TypeError)):
        processor(tmp_path, "vit", config, "pil")(picture(PHOTOGRAPHS[0]))
    with pytest.raises(ConfigError):
        spec_of("vit", config)


@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_filters_by_name(tmp_path, name):
    """The torchvision backend takes names; on Pillow the reference makes bilinear of all."""
    config = {"resample": name}
    assert spec_of("vit", config).interpolation == name
    image = picture(PHOTOGRAPHS[0])
    by_name = reference(processor(tmp_path, "vit", config, "torchvision"), image)
    number = {"resample": Image.Resampling[name.upper()].value}
    by_number = reference(processor(tmp_path, "vit", number, "torchvision"), image)
    np.testing.assert_array_equal(by_name, by_number)


@pytest.mark.parametrize("name", PUBLISHED)
def test_distance_of_the_torchvision_backend(tmp_path, name):
    """At most 2/255, on at most one pixel in fifty of each picture.

    Left out are pictures more than twice as tall as wide: Pillow since version 13 may resize their
    height first, and then a third of the pixels differ, by as little.
    """
    model_type, config = PUBLISHED[name]
    spec = spec_of(model_type, config)
    process = processor(tmp_path, model_type, config, "torchvision")
    assert process.backend == "torchvision"
    images = [image for image in sample() if image.height <= 2 * image.width]
    theirs = np.stack([reference(process, image) for image in images])
    off = np.abs(ImagePreprocessor(spec)(images) - theirs) * np.asarray(spec.std) * 255
    assert off.max() < 2.001
    assert np.mean(off.max(axis=-1) > 0.001, axis=(1, 2)).max() < 0.02
