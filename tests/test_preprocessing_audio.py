"""The audio spec and the host path: every form of WAV file and array, resampling, every refusal."""

import io
import json
import os
import pickle
import re
import struct
import warnings
import wave

import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import AccessError, ConfigError, InputError, NotFoundError
from zoo.preprocessing import audio as audio_module
from zoo.preprocessing.audio import AudioPreprocessor, MixdownWarning, resample
from zoo.preprocessing.spec import AudioSpec
from zoo.registry.card import from_data, to_data

SPEC = AudioSpec(sampling_rate=16_000, window=512, context=64)
WIDTHS = {1: (np.uint8, 128, 2**7), 2: (np.int16, 0, 2**15), 4: (np.int32, 0, 2**31)}
IEEE = 3
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


@pytest.fixture
def preprocess():
    return AudioPreprocessor(SPEC)


def tone(count=1000, dtype=np.int16):
    """A sine at half of full scale."""
    values = 0.5 * np.sin(np.arange(count) / 7)
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    _, middle, scale = WIDTHS[np.dtype(dtype).itemsize]
    return np.rint(values * scale + middle).astype(dtype)


def pcm(frames, channels=1, width=2, rate=16_000):
    """A PCM file by the standard library's writer, of raw bytes or an array."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(frames if isinstance(frames, bytes) else frames.tobytes())
    return stream.getvalue()


def chunk(name, content, size=None):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def header(tag, channels, rate, width, bits=None):
    block = channels * width
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits or 8 * width)


def riff(*chunks):
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def floats(samples, rate=16_000, extensible=False):
    """A file of IEEE floats."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    tag = 0xFFFE if extensible else IEEE
    layout = header(tag, channels, rate, samples.itemsize)
    if extensible:
        layout += struct.pack("<HHIH", 22, 8 * samples.itemsize, 0, IEEE) + GUID_TAIL
    return riff(chunk(b"fmt ", layout), chunk(b"data", samples.tobytes()))


# Forms of input


def test_every_form_gives_the_same(preprocess, tmp_path):
    data = pcm(tone())
    path = tmp_path / "tòne 1.wav"
    path.write_bytes(data)
    expected = tone().astype(np.float32) / 32768
    forms = [path, str(path), data, bytearray(data), memoryview(data)]
    forms += [tone(), tone()[:, None], tf.constant(tone()), tone().astype(">i2"), expected]
    forms += [expected.astype(np.float64)]
    for form in forms:
        samples = preprocess.read(form)
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, expected)


def test_a_path_in_the_home_folder(preprocess, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.wav").write_bytes(pcm(tone()))
    assert preprocess.read("~/a.wav").shape == (1000,)


@pytest.mark.parametrize("width", WIDTHS)
def test_integers_are_scaled_by_their_width(preprocess, width):
    dtype, middle, scale = WIDTHS[width]
    limits = np.iinfo(dtype)
    values = np.array([limits.min, middle, limits.max, middle + 1], dtype)
    expected = np.array([-1, 0, (limits.max - middle) / scale, 1 / scale], np.float32)
    np.testing.assert_array_equal(preprocess.read(values), expected)
    np.testing.assert_array_equal(preprocess.read(pcm(values, width=width)), expected)


def test_24_bits(preprocess):
    values = [-(2**23), -1, 0, 1, 2**23 - 1]
    data = b"".join(value.to_bytes(3, "little", signed=True) for value in values)
    expected = np.array(values, np.float32) / 2**23
    np.testing.assert_array_equal(preprocess.read(pcm(data, width=3)), expected)


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ieee_floats(preprocess, dtype, extensible):
    samples = tone(dtype=dtype)
    result = preprocess.read(floats(samples, extensible=extensible))
    np.testing.assert_array_equal(result, samples.astype(np.float32))


def test_extensible_integers_of_fewer_bits_than_their_bytes(preprocess):
    layout = header(0xFFFE, 1, 16_000, 4, bits=32) + struct.pack("<HHIH", 22, 24, 0, 1) + GUID_TAIL
    data = riff(chunk(b"fmt ", layout), chunk(b"data", tone(dtype=np.int32).tobytes()))
    np.testing.assert_array_equal(preprocess.read(data), preprocess.read(tone(dtype=np.int32)))


def test_other_chunks_are_passed_over(preprocess):
    layout = chunk(b"fmt ", header(1, 1, 16_000, 2))
    odd = chunk(b"LIST", b"seven b")  # followed by one byte that fills up
    data = riff(odd, layout, odd, chunk(b"data", tone().tobytes()), chunk(b"id3 ", b"x" * 9))
    np.testing.assert_array_equal(preprocess.read(data), preprocess.read(tone()))


def test_a_piped_file_does_not_know_its_size(preprocess):
    layout = chunk(b"fmt ", header(1, 1, 16_000, 2))
    data = riff(layout, chunk(b"data", tone().tobytes(), size=0xFFFFFFFF))
    np.testing.assert_array_equal(preprocess.read(data), preprocess.read(tone()))


def test_channels_are_averaged_and_that_is_said_once(preprocess):
    audio_module._warn_of_mixdown.cache_clear()
    left, right = tone(), -tone(2000)[1000:]
    both = np.stack([left, right], axis=1)
    with pytest.warns(MixdownWarning, match="averaged into one"):
        samples = preprocess.read(both)
    again = preprocess.read(pcm(both, channels=2))  # a second warning would be an error
    expected = (left.astype(np.float32) + right) / 2 / 32768
    np.testing.assert_allclose(samples, expected, atol=1e-7)
    np.testing.assert_array_equal(again, samples)


def test_one_channel_of_a_table_is_no_mixdown(preprocess):
    audio_module._warn_of_mixdown.cache_clear()
    assert preprocess.read(tone()[:, None]).shape == (1000,)


# Resampling


def windowed_sinc(samples, rate, target):
    """What `resample` computes, from its definition, in float64 and one value after another."""
    cutoff = 0.99 * min(1, target / rate)  # in the samples' own Nyquist frequency
    places = np.arange(-(-len(samples) * target // rate)) * rate / target
    times = (np.arange(len(samples)) - places[:, None]) * cutoff
    window = np.where(abs(times) < 6, np.cos(np.pi * times / 12) ** 2, 0)
    return (np.sinc(times) * window * cutoff) @ samples


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_345, 22_050, 44_100, 48_000, 96_000, 16_001])
@pytest.mark.parametrize("count", [1, 2, 500, 1337])
def test_resampling_is_the_windowed_sinc(rate, count):
    samples = np.random.default_rng(count).normal(size=count).astype(np.float32)
    result = resample(samples, rate, 16_000)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, windowed_sinc(samples, rate, 16_000), atol=3e-6)


def test_resampling_in_blocks(monkeypatch):
    samples = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    whole = resample(samples, 44_100, 16_000)
    monkeypatch.setattr(audio_module, "_BLOCK", 3)
    np.testing.assert_allclose(resample(samples, 44_100, 16_000), whole, atol=1e-6)


@pytest.mark.parametrize(("rate", "frequency"), [(8_000, 1_000), (44_100, 3_000), (48_000, 5_000)])
def test_a_tone_stays_that_tone(preprocess, rate, frequency):
    def sine(at):
        return np.sin(2 * np.pi * frequency * np.arange(at // 2) / at)

    result = preprocess.read(sine(rate), sampling_rate=rate)
    inner = slice(100, -100)
    np.testing.assert_allclose(result[inner], sine(16_000)[inner], atol=0.01)


def test_what_the_lower_rate_cannot_hold_goes(preprocess):
    high = np.sin(2 * np.pi * 11_000 * np.arange(48_000) / 48_000)
    assert abs(preprocess.read(high, sampling_rate=48_000)[100:-100]).max() < 0.01


def test_files_know_their_rate(preprocess):
    data = pcm(tone(), rate=8_000)
    expected = preprocess.read(tone(), sampling_rate=8_000)
    assert expected.shape == (2000,)
    np.testing.assert_array_equal(preprocess.read(data), expected)
    np.testing.assert_array_equal(preprocess.read(data, sampling_rate=8_000), expected)
    with pytest.raises(InputError, match=r"rate of 8000 Hz by its header, and sampling_rate=16000"):
        preprocess.read(data, sampling_rate=16_000)


# Windows and batches


@pytest.mark.parametrize("count", [1, 511, 512, 513, 5000])
def test_windows(preprocess, count):
    samples = np.arange(1, count + 1, dtype=np.float32)
    windows = preprocess.windows(samples)
    assert windows.shape == (-(-count // 512), 576)
    assert not windows[0, :64].any()
    np.testing.assert_array_equal(windows[1:, :64], windows[:-1, -64:])
    filled = windows[:, 64:].ravel()
    np.testing.assert_array_equal(filled[:count], samples)
    assert not filled[count:].any()


def test_no_samples_are_no_windows(preprocess):
    assert preprocess.windows(np.zeros(0, np.float32)).shape == (0, 576)
    without = AudioPreprocessor(AudioSpec(window=512))
    assert without.windows(np.zeros(0, np.float32)).shape == (0, 512)


def test_a_batch(preprocess):
    one, two = tone(1000), tone(1020)[::-1]
    batch = preprocess([one, pcm(two)])
    assert batch.dtype == np.float32
    assert batch.shape == (2, 2, 576)
    np.testing.assert_array_equal(batch[1], preprocess.windows(preprocess.read(two)))
    np.testing.assert_array_equal(preprocess(one), batch[:1])
    assert preprocess([]).shape == (0, 0, 576)
    assert preprocess((one, one), sampling_rate=8_000).shape == (2, 4, 576)
    with pytest.raises(InputError, match="from 2 to 3 windows"):
        preprocess([one, tone(1025)])


# Refusals

CUT = pcm(tone())[:-100]
NO_DATA = pcm(tone())[:40]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (b"", r"The audio, 0 bytes, is no WAV file: it is empty \(zero bytes\)\."),
        (b"ID3\x04" + bytes(20), r"seems to be an MP3 file\. Convert it first: ffmpeg"),
        (b"\xff\xfb\x90" + bytes(20), r"seems to be an MP3 file"),
        (b"OggS" + bytes(20), r"seems to be an Ogg file"),
        (b"fLaC" + bytes(20), r"seems to be a FLAC file"),
        (b"\0\0\0\x1cftypM4A ", r"seems to be an MP4 file"),
        (b"FORM\0\0\0\0AIFF", r"seems to be an AIFF file"),
        (b"RF64" + bytes(20), r"more than 4 GB"),
        (b"RIFF\0\0\0\0AVI LIST", r"it starts with b'RIFF"),
        (b"<html>", r"it starts with b'<html>'"),
        (CUT, r"cut short: its header says 2,000 bytes of samples, and 1,900 are there"),
        (NO_DATA, r"no data chunk in 40 bytes"),
        (riff(chunk(b"data", b"ab")), r"samples come before their format"),
        (riff(chunk(b"fmt ", b"ab")), r"its format \(fmt\) has 2 bytes, not 16"),
        (riff(chunk(b"fmt ", header(7, 1, 8000, 1))), r"compressed \(mu-law\); PCM or IEEE"),
        (riff(chunk(b"fmt ", header(0x55, 1, 8000, 1))), r"compressed \(MP3\)"),
        (riff(chunk(b"fmt ", header(0xFFFE, 1, 8000, 2) + bytes(24))), r"compressed \(0xfffe\)"),
        (riff(chunk(b"fmt ", header(1, 0, 8000, 2))), r"says 0 channels of 16 bits in blocks of 0"),
        (riff(chunk(b"fmt ", header(1, 1, 8000, 5))), r"1 channels of 40 bits in blocks of 5"),
        (riff(chunk(b"fmt ", header(3, 1, 8000, 2))), r"1 channels of 16 bits"),
        (pcm(b""), r"is empty: it has no samples"),
        (pcm(tone(), rate=10), r"sampling rate of 10; a whole number from 1,000 to 1,000,000 Hz"),
        (np.zeros(0), r"The audio is empty: it has no samples"),
        (np.zeros((5, 0)), r"is empty"),
        (np.array([0, np.nan, 1]), r"The audio has nan at \[1\]"),
        (np.array([[0.0, 0], [0, np.inf]]), r"has inf at \[1, 1\]"),
        (floats(np.array([0, np.nan])), r"bytes, has nan at \[1, 0\]"),
        (np.array([0.0, 20_000]), r"has floats up to 20000; from -1 to 1 was expected"),
        (np.array([1e200, 0]), r"has floats up to 1e\+200"),
        (np.zeros(9, complex), r"is a complex128 array \[9\]"),
        (np.zeros(9, bool), r"is a bool array \[9\]"),
        (np.zeros(9, np.int64), r"is a int64 array \[9\]\. Audio is uint8, int16, int32"),
        (np.array(["a"]), r"array \[1\]\. Audio is uint8"),
        (np.zeros((1, 9, 2)), r"array \[1, 9, 2\]\. Audio is \[t\] or \[t, channels\]"),
        (np.zeros((1, 16_000)), r"\[1, 16000\].* Channels come last: transpose it"),
        (np.float32(0.5), r"float32 is no audio"),
        (np.array(0.5), r"array \[\]\. Audio is \[t\]"),
        (3, r"int is no audio\. Inputs are paths of WAV files"),
        (None, r"NoneType is no audio"),
        ("https://example.com/a.wav", r"is an address\. Download it"),
        ("/", r"is a folder"),
        ("a\0b", r"cannot be opened"),
    ],
)
def test_refusals(preprocess, x, message):
    with pytest.raises(InputError, match=message):
        preprocess.read(x)


@pytest.mark.parametrize("rate", [0, -16_000, 16_000.0, "16000", True, 999, 2_000_000])
def test_impossible_rates(preprocess, rate):
    message = rf"sampling rate of {re.escape(repr(rate))}; a whole number from 1,000"
    with pytest.raises(InputError, match=message):
        preprocess.read(tone(), sampling_rate=rate)


def test_files_that_are_not_there(preprocess):
    with pytest.raises(NotFoundError, match=r"'nowhere\.wav', is not there"):
        preprocess.read("nowhere.wav")


def test_a_file_of_another_user(preprocess, tmp_path):
    closed = tmp_path / "closed.wav"
    closed.write_bytes(pcm(tone()))
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user may read anything")
    with pytest.raises(AccessError, match="may not be read by this user"):
        preprocess.read(closed)


def test_a_batch_names_the_recording_that_is_wrong(preprocess):
    with pytest.raises(InputError, match=r"^Recording 1 of 2 \(counted from 0\) is empty"):
        preprocess([tone(), np.zeros(0)])


def test_a_bad_recording_is_no_warning_besides(preprocess):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            preprocess.read(np.array([np.nan, 1e300]))
    assert not caught


# The spec


def test_spec_goes_through_json():
    data = json.loads(json.dumps(to_data(SPEC)))
    assert data == {"kind": "audio", "context": 64}
    assert from_data(AudioSpec, {"context": 64}) == SPEC
    with pytest.raises(ConfigError, match=r"AudioSpec has no field 'windows'.* Did you mean"):
        from_data(AudioSpec, {"windows": 512})
    assert AudioSpec.kind == "audio"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling_rate": 0}, "sampling_rate is 0; a whole number of at least 1"),
        ({"sampling_rate": 16e3}, "sampling_rate is 16000.0"),
        ({"window": -1}, "window is -1"),
        ({"window": True}, "window is True"),
        ({"context": -1}, "context is -1; a whole number of at least 0"),
        ({"context": 513}, "context is 513 samples and window 512"),
    ],
)
def test_specs_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        AudioSpec(**options)


def test_spec_for_people_and_for_gates():
    facts = list(SPEC.facts())
    assert facts == [
        ("Input", "audio of 16000 Hz, one channel"),
        ("  windows", "512 samples (32 ms), each after 64 samples of context"),
    ]
    assert SPEC.summary == "16000 Hz, windows of 512 samples"
    assert SPEC.noise(np.random.default_rng(0)).shape == (2, 16, 576)


def test_preprocessors_compare_and_pickle(preprocess):
    again = pickle.loads(pickle.dumps(preprocess))
    assert again == preprocess
    np.testing.assert_array_equal(again(tone()), preprocess(tone()))
    assert preprocess != AudioPreprocessor(AudioSpec())
