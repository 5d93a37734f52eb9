"""The `preprocessor_config.json` of transformers' image models: read as a spec, written from one.

The facts are those of transformers' image processors (`image_processing_backends.py` and
`models/*/image_processing_*.py`; 5.24.0), and the arithmetic is that of its Pillow backend. Its
torchvision backend, the default where torchvision is installed, resizes with coarser weights: up to
one pixel in fifty of a photograph is off by 1/255 or 2/255 from Pillow's, and from ours.

Both forms of the file are read: the older one, of feature extractors, where sizes are bare numbers,
and today's. A key that is missing has the default of the processor class that the file names, else
of the class that belongs to the model type; null, as there, switches a step off.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.preprocessing.spec import ImageSpec, Interpolation
from zoo.typed import Size, fits

# by Pillow's numbers
_FILTERS: list[Interpolation] = ["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
_BILINEAR, _BICUBIC = 2, 3

_EVERY_CLASS = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "do_convert_rgb": False,
    "do_pad": False,
    "default_to_square": True,
    "crop_size": None,
}
_HALF = {"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}
_CLIP = {
    **_EVERY_CLASS,
    "size": {"shortest_edge": 224},
    "resample": _BICUBIC,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_convert_rgb": True,
    "default_to_square": False,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
DEFAULTS: dict[str, dict[str, Any]] = {  # of each processor class
    "ViTImageProcessor": {
        **_EVERY_CLASS,
        **_HALF,
        "size": {"height": 224, "width": 224},
        "resample": _BILINEAR,
    },
    "DeiTImageProcessor": {
        **_EVERY_CLASS,
        **_HALF,
        "size": {"height": 256, "width": 256},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
    },
    "BitImageProcessor": _CLIP,
    "CLIPImageProcessor": _CLIP,
    "SiglipImageProcessor": {
        **_EVERY_CLASS,
        **_HALF,
        "size": {"height": 224, "width": 224},
        "resample": _BICUBIC,
        "do_convert_rgb": True,
        "default_to_square": False,
    },
}
_WITHOUT_EFFECT = {
    *("image_processor_type", "feature_extractor_type", "processor_class"),
    *("data_format", "input_data_format", "return_tensors", "device", "disable_grouping"),
    *("_valid_processor_keys", "_valid_kwargs_names", "image_seq_length"),
    "pad_size",  # of `do_pad`
}
_REFUSED = ("do_pad", "use_square_size")  # where they are true


def image_spec_from_preprocessor(
    data: Mapping[str, Any], *, origin: str, processor: str
) -> ImageSpec:
    """The preprocessing that a `preprocessor_config.json` describes.

    Args:
        data: content of the file.
        origin: handle of the repo or folder, named in errors.
        processor: the class of the model's type, which counts where the file names none.

    Raises:
        ConfigError: a class that zoo does not know; images of no one size (a resize of the shorter
            edge with no crop after it, or neither); a value that cannot be.
    """
    where = f"{origin.rstrip('/')}/preprocessor_config.json"
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} should hold an object; it holds a {type(data).__name__}.")
    try:
        defaults = DEFAULTS[_processor_class(data, processor)]
        for key in sorted(data.keys() - defaults.keys() - _WITHOUT_EFFECT - {*_REFUSED}):
            warnings.warn(
                f"{where}: ignored {key!r}, which is unknown in a preprocessor_config.json.",
                UserWarning,
                stacklevel=2,
            )
        return _spec({**defaults, **data})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def preprocessor_from_image_spec(spec: ImageSpec, *, processor: str) -> dict[str, Any]:
    """A `preprocessor_config.json` by which transformers prepares images as `spec` says.

    It is read back as the same spec where the spec came from such a file. `test_input_size`,
    `test_crop_pct` and `fixed_input_size` have no place in it.

    Args:
        processor: the class of the model's type.

    Raises:
        ConfigError: preprocessing that the file cannot say.
    """
    exact = spec.crop_mode == "squash" and spec.resize
    cropped = not exact or spec.scale_size != spec.input_size
    _check_sayable(spec, cropped=cropped)
    height, width = spec.scale_size
    size = {"height": height, "width": width} if exact else {"shortest_edge": height}
    crop_size = {"height": spec.input_size[0], "width": spec.input_size[1]}
    return {
        "image_processor_type": processor,
        "do_resize": spec.resize,
        **({"size": size} if spec.resize else {}),
        "resample": _FILTERS.index(spec.interpolation),
        "do_center_crop": cropped,
        **({"crop_size": crop_size} if cropped else {}),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "do_convert_rgb": spec.alpha == "white",
    }


# The class, by whose defaults the file is read


def _processor_class(data: Mapping[str, Any], usual: str) -> str:
    named = data.get("image_processor_type")
    if named is None and data.get("feature_extractor_type") is not None:
        named = str(data["feature_extractor_type"]).replace("FeatureExtractor", "ImageProcessor")
    if named is None:
        return usual
    name = str(named).removesuffix("Fast").removesuffix("Pil")
    if name not in DEFAULTS:
        raise ConfigError(
            f"zoo does not do the preprocessing of {named!r}; it knows {', '.join(DEFAULTS)}."
            f"{did_you_mean(name, DEFAULTS)}"
        )
    return name


# Reading


def _spec(values: dict[str, Any]) -> ImageSpec:
    """The spec of a whole set of values, defaults filled in."""
    for name in _REFUSED:
        if _flag(values, name):
            raise ConfigError(f"{name} is true, which zoo does not do.")
    mean, std = _statistics(values)
    on_white = _flag(values, "do_convert_rgb")
    if on_white and len(mean) != 3:
        raise ConfigError(
            f"do_convert_rgb gives 3 channels, but image_mean and image_std are for {len(mean)}."
        )
    return ImageSpec(
        **_geometry(values),
        channels=len(mean),
        interpolation=_interpolation(values),
        mean=mean,
        std=std,
        alpha="white" if on_white else "drop",
    )


def _geometry(values: dict[str, Any]) -> dict[str, Any]:
    """The fields of the spec that say resize and crop."""
    square = _flag(values, "default_to_square")
    size = _size(values, "size", square=square) if _flag(values, "do_resize") else None
    crop = _size(values, "crop_size", square=True) if _flag(values, "do_center_crop") else None
    if isinstance(crop, int):
        raise ConfigError(f"crop_size is {values['crop_size']!r}; it needs height and width.")
    if crop is None or crop == size:
        if isinstance(size, tuple):
            return {"input_size": size, "crop_mode": "squash", "crop_pct": 1.0}
        found = f"size {values['size']!r}" if size else "do_resize off"
        raise ConfigError(
            f"With {found} and do_center_crop off, images come in all sizes; zoo prepares images "
            "of one size. Switch do_center_crop on, or give size a height and a width."
        )
    fields = {"input_size": crop, "crop_rounding": "floor"}
    if size is None:
        return fields | {"resize": False, "crop_pct": 1.0}
    if isinstance(size, int):
        return fields | {"crop_mode": "center", "crop_pct": _crop_pct(crop, (size, size))}
    return fields | {"crop_mode": "squash", "crop_pct": _crop_pct(crop, size)}


def _crop_pct(crop: tuple[int, int], resized: tuple[int, int]) -> float:
    """The share whose resize is to exactly `resized`, both (height, width)."""
    share = min(edge / target for edge, target in zip(crop, resized, strict=True))
    for value in (share, math.nextafter(share, 0.0)):  # the division may round below the target
        if ImageSpec(input_size=crop, crop_pct=value).scale_size == resized:
            return value
    raise ConfigError(
        f"crop_size {crop} is another share of the height than of the width of the resized image, "
        f"{resized}, which zoo does not do."
    )


def _size(values: dict[str, Any], name: str, *, square: bool) -> int | tuple[int, int]:
    """(height, width), or the length of the shorter edge."""
    size = values[name]
    if _is_count(size):
        return (size, size) if square else size
    if isinstance(size, list | tuple):
        size = dict(zip(("height", "width"), size, strict=False)) if len(size) == 2 else size
    if isinstance(size, Mapping) and all(_is_count(edge) for edge in size.values()):
        if size.keys() == {"height", "width"}:
            return size["height"], size["width"]
        if size.keys() == {"shortest_edge"}:
            return size["shortest_edge"]
    raise ConfigError(
        f"{name} is {values[name]!r}; whole pixels were expected: an edge, height and width, or "
        "shortest_edge alone."
    )


def _interpolation(values: dict[str, Any]) -> Interpolation:
    """The filter, by Pillow's number or name."""
    found = values["resample"]
    if found is None and not _flag(values, "do_resize"):
        return ImageSpec().interpolation
    for number, name in enumerate(_FILTERS):
        if str(found).lower() in (str(number), name):
            return name
    known = ", ".join(f"{number} ({name})" for number, name in enumerate(_FILTERS))
    raise ConfigError(f"resample is {found!r}; expected one of {known}.")


def _statistics(values: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std on values in 0..1, whatever the file rescales to."""
    factor = values["rescale_factor"] if _flag(values, "do_rescale") else 1.0
    if not (_is_number(factor) and factor > 0):
        raise ConfigError(f"rescale_factor is {factor!r}; a positive number was expected.")
    given: dict[str, Any] = {"image_mean": 0.0, "image_std": 1.0}
    if _flag(values, "do_normalize"):
        given = {name: values[name] for name in given}
    counts = [len(value) for value in given.values() if isinstance(value, list | tuple)]

    def per_channel(name: str) -> tuple[float, ...]:
        value, channels = given[name], max(counts, default=3)
        held = tuple(value) if isinstance(value, list | tuple) else (value,) * channels
        if len(held) != channels or not all(map(_is_number, held)):
            raise ConfigError(f"{name} is {value!r}; a number, or one per channel, was expected.")
        return tuple(number / (255 * factor) for number in held)

    return per_channel("image_mean"), per_channel("image_std")


def _flag(values: dict[str, Any], name: str) -> bool:
    value = values.get(name)
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; true or false was expected.")
    return bool(value)


def _is_count(value: Any) -> bool:
    return fits(value, Size)


def _is_number(value: Any) -> bool:
    return fits(value, float)


# Writing


def _check_sayable(spec: ImageSpec, *, cropped: bool) -> None:
    """Raises ConfigError for what a `preprocessor_config.json` has no words for."""
    height, width = spec.scale_size
    uneven = spec.crop_mode == "center" and height != width
    if spec.channel_order != "rgb":
        found = f"channel_order {spec.channel_order!r}"
    elif spec.resize and (spec.crop_mode == "border" or uneven):
        found = f"the resize of crop_mode {spec.crop_mode!r} to input_size {spec.input_size}"
    elif cropped and spec.crop_rounding != "floor":
        found = f"crop_rounding {spec.crop_rounding!r}"
    else:
        return
    raise ConfigError(
        f"transformers' preprocessor_config.json cannot say {found}. Change the spec "
        "(`dataclasses.replace`), or save in a layout that can."
    )
