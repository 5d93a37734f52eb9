"""The image spec and the host path: every input form, every colour mode, every refusal."""

import io
import json
import os
import pickle
import shutil
import ssl
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image
from weights_server import web_server

from zoo.errors import (
    AccessError,
    ConfigError,
    DownloadError,
    InputError,
    NotFoundError,
)
from zoo.preprocessing import pixels, reading
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.pixels import normalize
from zoo.preprocessing.spec import ImageSpec
from zoo.registry.card import from_data, to_data

CHINA = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"  # 640 x 427
SMALL = ImageSpec(input_size=(20, 24), crop_pct=0.9)
PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


@pytest.fixture(scope="module")
def china():
    with Image.open(CHINA) as image:
        image.load()
    return image


@pytest.fixture
def preprocess():
    return ImagePreprocessor(SMALL)


def encoded(image, form="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def levels(preprocess, x):
    """The 8-bit pixels behind a result of a preprocessor with mean 0 and deviation 1."""
    return np.rint(preprocess(x) * 255).astype(np.uint8)


# Geometry and arithmetic


@pytest.mark.parametrize(
    ("options", "resized", "box"),
    [
        # 256 * 640 / 427 = 383.7, cut; (383 - 224) / 2 = 79.5, to even
        ({}, (383, 256), (80, 16, 304, 240)),
        ({"crop_pct": 1.0}, (335, 224), (56, 0, 280, 224)),
        ({"crop_mode": "squash", "crop_pct": 0.9}, (248, 248), (12, 12, 236, 236)),
        ({"crop_mode": "squash", "input_size": (100, 160)}, (182, 114), (11, 7, 171, 107)),
        # the ratio of the nearer edge, for a target that is not square
        ({"input_size": (100, 160)}, (182, 121), (11, 10, 171, 110)),
        # pads of 37 and 38 rows
        ({"crop_mode": "border", "crop_pct": 1.0}, (224, 149), (0, -37, 224, 187)),
        ({"crop_mode": "border"}, (256, 171), (16, -26, 240, 198)),
        ({"crop_pct": 1.15}, (290, 194), (33, -15, 257, 209)),
        # (335 - 224) / 2 = 55.5, down; 37.5 rows of padding, up above
        ({"crop_pct": 1.0, "crop_rounding": "floor"}, (335, 224), (55, 0, 279, 224)),
        (
            {"crop_mode": "border", "crop_pct": 1.0, "crop_rounding": "floor"},
            (224, 149),
            (0, -38, 224, 186),
        ),
        ({"resize": False}, (640, 427), (208, 102, 432, 326)),
        ({"resize": False, "crop_rounding": "floor"}, (640, 427), (208, 101, 432, 325)),
        ({"resize": False, "input_size": (500, 640)}, (640, 427), (0, -36, 640, 464)),
    ],
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest"])
def test_geometry(china, options, resized, box, interpolation):
    spec = ImageSpec(**options, interpolation=interpolation, mean=(0.485, 0.456, 0.406))
    crop = china.resize(resized, Image.Resampling[interpolation.upper()]).crop(box)
    expected = np.asarray(crop).copy()
    if spec.crop_mode == "border":
        rows = np.arange(box[1], box[3])
        expected[(rows < 0) | (rows >= resized[1])] = 124, 116, 104
    np.testing.assert_array_equal(ImagePreprocessor(spec)(china), normalize(expected, spec)[None])


def test_normalize_rounds_to_float32_three_times():
    spec = ImageSpec()
    pixels = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    f = np.float32
    expected = [
        [(f(v) / f(255) - f(m)) / f(s) for m, s in zip(spec.mean, spec.std, strict=True)]
        for v in range(256)
    ]
    result = normalize(pixels, spec)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, np.asarray(expected, f))


def test_bgr_turns_channels_and_fill_alike(china):
    statistics = {"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.4)}
    spec = ImageSpec(**statistics, crop_mode="border", channel_order="bgr")
    turned = Image.merge("RGB", china.split()[::-1])
    expected = ImagePreprocessor(ImageSpec(**statistics, crop_mode="border"))(turned)
    np.testing.assert_array_equal(ImagePreprocessor(spec)(china), expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (700, 2), (19, 23)])
@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_any_size(size, crop_mode):
    image = Image.new("RGB", size, (255, 255, 255))
    spec = ImageSpec(input_size=(20, 20), crop_mode=crop_mode, mean=(1.0,) * 3, std=(0.5,) * 3)
    result = ImagePreprocessor(spec)(image)
    assert result.shape == (1, 20, 20, 3)
    assert (result == 0).all()  # white is the mean, and so is the border


def test_input_size_of_a_call(china):
    spec = ImageSpec(input_size=(224, 224))
    expected = ImagePreprocessor(ImageSpec(input_size=(64, 96)))(china)
    np.testing.assert_array_equal(ImagePreprocessor(spec)(china, input_size=(64, 96)), expected)
    assert ImagePreprocessor(spec)(china, input_size=32).shape == (1, 32, 32, 3)


def test_test_size():
    spec = ImageSpec(test_input_size=(288, 288), test_crop_pct=0.95)
    larger = ImagePreprocessor(spec, exif=False).at_test_size()
    assert larger.spec.input_size == (288, 288)
    assert larger.spec.crop_pct == 0.95
    assert not larger.exif
    assert ImageSpec().at_test_size() == ImageSpec()


# Forms of input


def test_every_form_gives_the_same(china, preprocess, tmp_path):
    path = tmp_path / "chïna 1.png"
    china.save(path)
    forms = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), china]
    forms += [np.asarray(china), memoryview(path.read_bytes())]
    expected = preprocess(china)
    assert expected.shape == (1, 20, 24, 3)
    assert expected.dtype == np.float32
    for form in forms:
        np.testing.assert_array_equal(preprocess(form), expected)
    np.testing.assert_array_equal(preprocess(forms), np.repeat(expected, len(forms), axis=0))
    np.testing.assert_array_equal(preprocess(tuple(forms[:2])), np.repeat(expected, 2, axis=0))


def test_home_is_expanded(china, preprocess, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    china.save(tmp_path / "china.png")
    np.testing.assert_array_equal(preprocess("~/china.png"), preprocess(china))


def test_a_batch_keeps_its_order(preprocess, tmp_path):
    arrays = [noise(30 + i, 40, 3) for i in range(12)]
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(tmp_path / f"{i:02}.png")
    result = preprocess(sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(result, np.concatenate([preprocess(a) for a in arrays]))


def test_arrays(preprocess):
    grey = noise(30, 40)
    expected = preprocess(np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(preprocess(grey), expected)
    np.testing.assert_array_equal(preprocess(grey[:, :, None]), expected)
    batch = noise(5, 30, 40, 3)
    np.testing.assert_array_equal(preprocess(batch), preprocess(list(batch)))
    with_alpha = np.concatenate([batch, noise(5, 30, 40, 1)], axis=-1)
    np.testing.assert_array_equal(preprocess(with_alpha), preprocess(batch))


def test_objects_with_an_array_inside(preprocess):
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return noise(30, 40, 3)

    np.testing.assert_array_equal(preprocess(Tensor()), preprocess(noise(30, 40, 3)))
    np.testing.assert_array_equal(preprocess(np.str_(CHINA)), preprocess(CHINA))


def test_no_images(preprocess):
    for empty in ([], (), np.zeros((0, 8, 8, 3), np.uint8)):
        assert preprocess(empty).shape == (0, 20, 24, 3)
        assert preprocess(empty).dtype == np.float32


def test_one_lazy_image_many_times(preprocess):
    with Image.open(CHINA) as image:
        result = preprocess([image] * 16)
    np.testing.assert_array_equal(result, np.repeat(preprocess(CHINA), 16, axis=0))


# Colour


def palette(china, transparency):
    return encoded(china.quantize(64), transparency=transparency)


@pytest.mark.parametrize(
    "make",
    [
        lambda china: encoded(china.convert("L")),
        lambda china: encoded(china.convert("1")),
        lambda china: encoded(china.convert("LA")),
        lambda china: encoded(Image.merge("RGBA", (*china.split(), china.convert("L")))),
        lambda china: encoded(china.quantize(64)),
        lambda china: encoded(china.quantize(64), transparency=3),
        lambda china: encoded(china.quantize(64), transparency=bytes(range(64))),
        lambda china: encoded(china, transparency=(1, 2, 3)),
        lambda china: encoded(china.convert("L"), transparency=7),
        lambda china: encoded(Image.merge("CMYK", (*china.split(), china.convert("L"))), "JPEG"),
        lambda china: encoded(china.convert("CMYK"), "TIFF"),
        lambda china: encoded(china, "WEBP", lossless=True),
        lambda china: encoded(china.quantize(64), "GIF"),
        lambda china: encoded(china.quantize(64), "BMP"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_colour_modes_are_converted_as_pillow_does(china, make, channels):
    data = make(china)
    preprocess = ImagePreprocessor(SMALL.with_channels(channels))
    with Image.open(io.BytesIO(data)) as image, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ours must not warn
        expected = preprocess(image.convert("RGB" if channels == 3 else "L"))
        np.testing.assert_array_equal(preprocess(image), expected)
    np.testing.assert_array_equal(preprocess(data), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda china: encoded(Image.merge("RGBA", (*china.split(), china.convert("L")))),
        lambda china: encoded(Image.merge("LA", (china.convert("L"), china.convert("L")))),
        lambda china: palette(china, 3),
        lambda china: palette(china, bytes(range(64))),
        lambda china: encoded(china.convert("L"), transparency=7),
    ],
)
def test_transparency_is_laid_on_white(china, make):
    data = make(china)
    with Image.open(io.BytesIO(data)) as image:
        *color, alpha = np.moveaxis(np.asarray(image.convert("RGBA")).astype(float), -1, 0)
    assert alpha.min() < 255
    pixels = np.rint((np.stack(color, -1) * alpha[..., None] / 255) + (255 - alpha)[..., None])
    preprocess = ImagePreprocessor(replace(SMALL, alpha="white"))
    expected = preprocess(pixels.astype(np.uint8))
    np.testing.assert_array_equal(preprocess(data), expected)
    assert not np.array_equal(ImagePreprocessor(SMALL)(data), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "CMYK"])
def test_opaque_images_are_the_same_on_white(china, mode):
    image = china.convert(mode)
    on_white = ImagePreprocessor(replace(SMALL, alpha="white"))
    np.testing.assert_array_equal(on_white(image), ImagePreprocessor(SMALL)(image))


def test_the_users_image_is_left_alone(china, preprocess):
    with Image.open(io.BytesIO(palette(china, bytes(range(64))))) as image:
        preprocess(image)
        assert image.info["transparency"] == bytes(range(64))
        assert image.mode == "P"


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_16_bits_are_scaled_with_one_warning(mode):
    preprocess = ImagePreprocessor(ImageSpec(input_size=(30, 40), crop_pct=1.0, **PLAIN))
    values = noise(30, 40, dtype=np.uint16)
    image = Image.fromarray(values.astype(">u2" if mode == "I;16B" else values.dtype))
    image = Image.fromarray(values.astype(np.int32)) if mode == "I" else image
    assert image.mode == mode
    pixels._warn_of_16_bits.cache_clear()
    with pytest.warns(UserWarning, match="16-bit image was scaled to 8 bits") as caught:
        result = levels(preprocess, [image, image])
    assert len(caught) == 1
    np.testing.assert_array_equal(result[1], np.repeat((values >> 8)[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(levels(preprocess, encoded(image, "TIFF")), result[:1])


def test_other_channel_counts():
    spec = ImageSpec(input_size=(20, 20), crop_mode="border", crop_pct=0.8).with_channels(5)
    array = noise(30, 40, 5)
    result = ImagePreprocessor(spec)([array])
    assert result.shape == (1, 20, 20, 5)
    for i in range(5):
        one = replace(spec, channels=1, mean=(spec.mean[i],), std=(spec.std[i],))
        expected = ImagePreprocessor(one)(np.ascontiguousarray(array[:, :, i]))
        np.testing.assert_array_equal(result[..., i : i + 1], expected)


# EXIF

STORED = {  # what turns an upright picture into the one that a camera stores
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(china, preprocess, tmp_path, orientation):
    method = STORED[orientation]
    stored = china if method is None else china.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(preprocess(tmp_path / "photo.png"), preprocess(china))
    raw = ImagePreprocessor(SMALL, exif=False)(tmp_path / "photo.png")
    np.testing.assert_array_equal(raw, preprocess(stored))
    with Image.open(tmp_path / "photo.png") as image:
        np.testing.assert_array_equal(preprocess(image), preprocess(stored))


def test_damaged_exif_is_passed_over(china, preprocess):
    data = encoded(china, exif=b"Exif\0\0II*\0\xff\xff\xff\x00 nonsense")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(preprocess(data), preprocess(china))


# Refusals


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (CHINA.read_bytes()[:9000], r"The image, 9,000 bytes, cannot be decoded: .*truncated"),
        (CHINA.read_bytes()[:30], "cannot be decoded|no image that Pillow can read"),
        (b"", "is empty"),
        (b"hello world", r"no image that Pillow can read: it starts with b'hello world'"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS drawing"),
        ([CHINA, b"text"], r"Image 1 of 2 \(counted from 0\), 4 bytes, is no image"),
        (np.zeros((8, 8, 3), np.float32), r"float32 array \[8, 8, 3\], values 0 to 0.*255 \* x"),
        (np.zeros((2, 8, 8, 3)), r"Image 0 of 2 .* float64 array \[8, 8, 3\]"),
        ([np.zeros((8, 8, 3), np.int64)], r"int64 array .*cast"),
        (np.zeros((3, 8, 8), np.uint8), r"\[3, 8, 8\].* Channels come last"),
        (np.zeros((8, 8, 5), np.uint8), r"\[8, 8, 5\]; \[h, w\]"),
        (np.zeros((8, 0, 3), np.uint8), "no empty edge"),
        (np.zeros(8, np.uint8), r"uint8 array \[8\]"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], r"uint8 array \[2, 8, 8, 3\]"),
        ((x for x in [CHINA]), "of type generator.*list or tuple"),
        (None, "of type NoneType"),
        ([[CHINA]], "of type list"),
        ("http://127.0.0.1/cat.jpg", "'http://127.0.0.1/cat.jpg', is no https address"),
        ("file:///etc/passwd", "no https address"),
        (str(CHINA.parent), "is a folder"),
        (str(CHINA) + "/cat.jpg", "cannot be opened: Not a directory"),
        (Image.new("F", (8, 8)), "floating-point pixels"),
        (Image.fromarray(np.full((8, 8), 70_000, np.int32)), "integers from 70000 to 70000"),
        (Image.new("La", (8, 8)), "colour mode La, which Pillow cannot make RGB"),
    ],
)
def test_refused(preprocess, x, message):
    with pytest.raises(InputError, match=f"(?s){message}"):
        preprocess(x)


def test_a_file_that_is_not_there(preprocess, tmp_path):
    with pytest.raises(NotFoundError, match=r"Image 1 of 2 .*no\.jpg', is not there"):
        preprocess([CHINA, tmp_path / "no.jpg"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user(preprocess, tmp_path):
    path = tmp_path / "secret.png"
    path.touch(mode=0)
    with pytest.raises(AccessError, match="may not be read by this user"):
        preprocess(path)


def test_every_truncation_is_an_input_error(preprocess):
    for data in (
        encoded(Image.fromarray(noise(40, 40, 3)), form) for form in ("PNG", "JPEG", "GIF")
    ):
        for end in range(1, len(data) - 20, len(data) // 17):
            with pytest.raises(InputError):
                preprocess(data[:end])


@pytest.mark.parametrize("limit", [100, 200])  # Pillow itself raises from twice its limit on
@pytest.mark.parametrize("action", ["error", "ignore"])
def test_a_decompression_bomb_is_not_decoded(preprocess, monkeypatch, limit, action):
    data = encoded(Image.new("RGB", (20, 15)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(InputError, match=r"too large.*(300|20 x 15) .*limit.*MAX_IMAGE"):
            preprocess(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert preprocess(data).shape == (1, 20, 24, 3)


def test_a_thin_image_is_not_blown_up():
    with pytest.raises(InputError, match="resized is too large: 1024000 x 256 pixels"):
        ImagePreprocessor(ImageSpec())(Image.new("RGB", (4000, 1)))


def test_pictures_for_a_model_of_five_channels():
    preprocess = ImagePreprocessor(ImageSpec().with_channels(5))
    for x in (CHINA, noise(8, 8, 3)):
        with pytest.raises(InputError, match=r"which takes 5: pass uint8 arrays \[h, w, 5\]"):
            preprocess(x)


# Addresses


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate for 127.0.0.1 with")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-newkey", "ec", "-pkeyopt"]
    command += ["ec_paramgen_curve:P-256", "-keyout", path, "-out", path.with_suffix(".crt")]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(command, check=True, capture_output=True)
    return path.with_suffix(".crt"), path


@pytest.fixture
def website(certificate, monkeypatch):
    """A dict of path to (status, headers, body), served at `website.url` over TLS."""

    class Website(dict):
        url = ""

    pages = Website()
    chain, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(chain))
    with web_server(lambda method, path, headers: pages[path]) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        pages.url = server.url.replace("http://", "https://")
        yield pages


def test_an_address(website, preprocess):
    website["/china.jpg"] = 200, {}, CHINA.read_bytes()
    website["/moved"] = 302, {"Location": "/china.jpg"}, b""
    expected = np.repeat(preprocess(CHINA), 2, axis=0)
    addresses = [f"{website.url}/china.jpg", f"{website.url}/moved"]
    np.testing.assert_array_equal(preprocess(addresses), expected)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, {}, b""), NotFoundError, "is not there: the server says 404"),
        ((403, {}, b""), AccessError, "is not open: the server says 403"),
        ((500, {}, b""), DownloadError, "could not be downloaded: 500"),
        ((302, {"Location": "http://127.0.0.1:1/x"}, b""), InputError, "redirects to .*not https"),
        ((200, {"Content-Length": "99"}, b"cut"), DownloadError, "could not be downloaded"),
        ((200, {}, b"<html>"), InputError, "is no image that Pillow can read"),
    ],
)
def test_an_address_that_gives_no_image(website, preprocess, answer, error, message):
    if "Content-Length" in answer[1]:
        answer = (answer[0], answer[1] | {"Connection": "close"}, answer[2])
    website["/x.jpg"] = answer
    with pytest.raises(error, match=rf"The image, '{website.url}/x\.jpg', {message}"):
        preprocess(f"{website.url}/x.jpg")


def test_a_download_has_bounds(website, preprocess, monkeypatch):
    website["/x.jpg"] = 200, {}, bytes(200_000)
    monkeypatch.setattr(reading, "_MAX_DOWNLOAD", 150_000)
    with pytest.raises(InputError, match="larger than 150,000 bytes"):
        preprocess(f"{website.url}/x.jpg")


def test_a_slow_download_is_stopped(website, monkeypatch):
    website["/x.jpg"] = 200, {}, bytes(200_000)
    monkeypatch.setattr(reading, "_MAX_TIMEOUTS", 0)
    with pytest.raises(DownloadError, match="too slowly"):
        ImagePreprocessor(SMALL, timeout=5.0)(f"{website.url}/x.jpg")


def test_no_server(preprocess):
    with pytest.raises(DownloadError, match="Check the network and the address"):
        preprocess("https://127.0.0.1:1/x.jpg")


# Values


def test_a_preprocessor_is_a_value():
    spec = ImageSpec(input_size=(32, 48), test_input_size=(64, 64), crop_mode="squash")
    preprocess = ImagePreprocessor(spec, exif=False, timeout=3.0)
    copy = pickle.loads(pickle.dumps(preprocess))
    assert copy == preprocess
    assert hash(copy) == hash(preprocess)
    assert copy.timeout == 3.0
    assert preprocess == ImagePreprocessor(spec, exif=False)
    assert preprocess != ImagePreprocessor(spec)
    assert preprocess != ImagePreprocessor(ImageSpec(), exif=False)


def test_spec_takes_and_gives_plain_data():
    spec = ImageSpec(input_size=(32, 48), mean=(0.5,) * 3)
    data = json.loads(json.dumps(to_data(spec)))
    assert ImageSpec(**data) == from_data(ImageSpec, data) == spec
    with pytest.raises(ConfigError, match=r"no field 'crop_ptc'.* Did you mean 'crop_pct'"):
        from_data(ImageSpec, {"crop_ptc": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "bicubik"}, "one of nearest, .* Did you mean 'bicubic'"),
        ({"interpolation": "random"}, "interpolation is 'random'"),
        ({"crop_mode": "centre"}, "Did you mean 'center'"),
        ({"channel_order": "rbg"}, "one of rgb, bgr"),
        ({"input_size": 224}, r"\(height, width\)"),
        ({"input_size": (0, 9)}, "at least one pixel"),
        ({"test_input_size": (224.0, 224.0)}, "whole pixels"),
        ({"crop_pct": 0.0}, "positive"),
        ({"crop_pct": None}, "positive"),
        ({"test_crop_pct": float("nan")}, "positive"),
        ({"channels": 1}, "mean has 3 values and std 3, for 1 channels"),
        ({"std": (0.0, 1.0, 1.0)}, "divides"),
        ({"channels": 1, "mean": (0,), "std": (1,), "channel_order": "bgr"}, "not 3"),
        ({"channels": 1, "mean": (0,), "std": (1,), "alpha": "white"}, "alpha is 'white' for 1"),
        ({"alpha": "black"}, "alpha is 'black'; one of drop, white"),
        ({"crop_rounding": "flor"}, "Did you mean 'floor'"),
    ],
)
def test_spec_refuses(options, message):
    with pytest.raises(ConfigError, match=message):
        ImageSpec(**options)


def test_with_channels():
    spec = ImageSpec(mean=(0.0, 0.3, 0.6), std=(0.1, 0.2, 0.3))
    assert spec.with_channels(3) is spec
    one = spec.with_channels(1)
    assert (one.mean, one.std) == (pytest.approx((0.3,)), pytest.approx((0.2,)))
    assert spec.with_channels(5).mean == (0.0, 0.3, 0.6, 0.0, 0.3)
    assert replace(spec, alpha="white").with_channels(1) == one


def test_fixed_size():
    """It says that a network is built for one size, and does not bind the preprocessing."""
    spec = ImageSpec(fixed_input_size=True)
    assert spec.at_size(224) == spec
    assert spec.at_size(256) == ImageSpec(fixed_input_size=True, input_size=(256, 256))
    assert ImagePreprocessor(spec)(CHINA, input_size=256).shape == (1, 256, 256, 3)
    assert dict(spec.facts())["Input"].endswith("(rgb), built for one size")


def test_facts():
    assert dict(ImageSpec().facts())["  resize"] == "bicubic, crop 0.875 (center)"
    facts = dict(ImageSpec(resize=False, alpha="white").facts())
    assert (facts["  resize"], facts["  transparency"]) == ("none, centre crop", "laid on white")
