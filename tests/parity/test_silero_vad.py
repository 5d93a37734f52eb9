"""Silero VAD live: the published weights against the package's ONNX graph and a twin in torch."""

import dataclasses
import hashlib

import keras
import numpy as np
import pytest
import silero
import synthetic_audio
import tensorflow as tf
import torch
from reference import relative_error
from silero_vad import get_speech_timestamps
from silero_vad.utils_vad import get_speech_timestamps_from_probs
from weights_server import web_server

import zoo
from zoo.errors import IntegrityError
from zoo.formats.silero_vad import WEIGHTS
from zoo.layers.building import named_weights
from zoo.tasks.audio import Segmenter, SegmentOptions
from zoo.weights.files import open_checkpoint

RATE, WINDOW = synthetic_audio.RATE, silero.WINDOW


@pytest.fixture(scope="module")
def model():
    return zoo.load("silero_vad", weights=silero.WEIGHTS)


@pytest.fixture(scope="module")
def audio():
    """Four minutes that do not end with a whole window."""
    return synthetic_audio.recording(240)[:-100]


@pytest.fixture(scope="module")
def twin():
    return silero.OnnxTwin()


@pytest.fixture(scope="module")
def expected(twin, audio):
    twin.reset_states()
    return twin.run(silero.frames(audio))


@pytest.fixture(scope="module")
def probabilities(model, audio):
    return model.speech_probabilities(audio)


def test_the_card_says_what_the_package_holds(model):
    card = zoo.info("silero_vad")
    assert card.weights.sha256 == hashlib.sha256(silero.WEIGHTS.read_bytes()).hexdigest()
    assert card.num_params == sum(tensor.size for tensor in silero.tensors().values())
    assert card.num_params == sum(int(np.prod(w.shape)) for w in model.weights)
    assert (model.load_report.fresh, model.load_report.ignored) == ((), ())


def test_the_onnx_file_has_other_weights():
    """As the card says; it is why the twin puts the published ones in their place."""
    graph = (silero.DATA / "silero_vad_16k_sequence.onnx").read_bytes()
    assert silero.tensors()["stft_conv.weight"].tobytes() in graph
    for name, tensor in silero.tensors().items():
        if name != "stft_conv.weight":
            assert tensor.tobytes() not in graph, name


def test_the_cards_address_gives_the_published_file(monkeypatch, tmp_path):
    """As from the card's own address, against the card's own hash."""
    card, content = zoo.info("silero_vad"), bytearray(silero.WEIGHTS.read_bytes())
    with web_server(lambda *_: (200, {}, bytes(content))) as server:
        where = dataclasses.replace(card.weights, url=f"{server.url}/silero_vad_16k.safetensors")
        changed = dataclasses.replace(card, weights=where)
        monkeypatch.setattr("zoo.loading.pulling.registry.info", lambda name: changed)
        loaded = zoo.load("silero_vad", cache_dir=tmp_path / "one")
        assert loaded.load_report.loaded == len(silero.tensors())
        content[-1] ^= 1
        with pytest.raises(IntegrityError, match=card.weights.sha256):
            zoo.load("silero_vad", cache_dir=tmp_path / "two")


def test_the_transform_is_not_learned(model):
    """So that it may stay out of training, and a model with no weights has it."""
    fresh = named_weights(zoo.load("silero_vad", pretrained=False))
    published = named_weights(model)["encoder.stft_conv.kernel"]
    np.testing.assert_allclose(fresh["encoder.stft_conv.kernel"], published, atol=1e-6)


def test_probabilities_are_the_references(expected, probabilities):
    assert probabilities.dtype == np.float32
    assert probabilities.shape == expected.shape
    assert 0.2 < (expected > 0.5).mean() < 0.8  # both answers are there
    assert abs(probabilities - expected).max() < 1e-4


def test_a_batch_is_the_recordings_alone(model, audio, probabilities):
    """`model(preprocess(...))`, with no task between."""
    pieces = [audio[: 40 * WINDOW], audio[50 * RATE : 50 * RATE + 40 * WINDOW]]
    logits = model(tf.constant(model.preprocess(pieces))).numpy()
    found = 1 / (1 + np.exp(-logits))
    np.testing.assert_allclose(found, model.speech_probabilities(pieces), atol=1e-6)
    np.testing.assert_allclose(found[0], probabilities[:40], atol=1e-6)


@pytest.mark.parametrize("longest", [5000, 300, 40_000])
def test_a_stream_is_the_whole(model, audio, probabilities, longest):
    rng = np.random.default_rng(longest)
    stream, found, start = model.stream(min_silence=0.3), [], 0
    audio = audio[: 60 * longest]
    while start < len(audio):
        chunk = audio[start : start + int(rng.integers(1, longest + 1))]
        found.append(stream.push(chunk))
        start += len(chunk)
    found = np.concatenate([*found, stream.flush()])
    assert len(found) == -(-len(audio) // WINDOW)
    whole = len(audio) // WINDOW  # the last window may be filled up
    # products of other sizes round otherwise, and the LSTM carries that on for minutes
    np.testing.assert_allclose(found[:whole], probabilities[:whole], atol=1e-5)
    assert stream.segments == model.speech_segments(audio, min_silence=0.3)


SETTINGS = [
    {},
    {"threshold": 0.8, "min_silence": 0.02},
    {"threshold": 0.3, "neg_threshold": 0.1, "min_speech": 0.0, "speech_pad": 0.2},
    {"max_speech": 2.0},
    {"max_speech": 1.0, "min_silence": 0.5, "min_silence_at_max_speech": 0.03},
    {"max_speech": 1.5, "min_silence": 0.5, "cut_at_longest_silence": False},
]


def in_samples(segments):
    """As the package gives them: whole samples."""
    times = np.array([(s.start, s.end) for s in segments]).reshape(-1, 2) * RATE
    np.testing.assert_allclose(times, np.rint(times), rtol=0, atol=1e-6)
    return [{"start": start, "end": end} for start, end in np.rint(times).astype(int).tolist()]


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_segments_are_the_packages(model, twin, audio, options):
    audio = audio[: 100 * RATE + 77]
    theirs = get_speech_timestamps(torch.from_numpy(audio), twin, **silero.package_options(options))
    assert len(theirs) > 3
    assert in_samples(model.speech_segments(audio, **options)) == theirs


def test_segments_of_random_probabilities_are_the_packages():
    """All rules at once, more often than speech would meet them."""
    rng, most = np.random.default_rng(0), 0
    for _ in range(2000):
        values, options = synthetic_audio.probabilities(rng), synthetic_audio.segment_options(rng)
        length = len(values) * WINDOW - int(rng.integers(WINDOW))
        segmenter = Segmenter(SegmentOptions(**options), window=WINDOW, sampling_rate=RATE)
        segmenter.push(values)
        theirs = get_speech_timestamps_from_probs(
            values.tolist(), audio_length_samples=length, **silero.package_options(options)
        )
        assert in_samples(segmenter.segments(length)) == theirs, options
        most = max(most, len(theirs))
    assert most > 50


def test_float64_is_the_twins(audio):
    """Outputs to 1e-9 and gradients to 1e-8, on the published weights."""
    model = zoo.load("silero_vad", weights=silero.WEIGHTS, dtype="float64")
    windows = silero.frames(audio[: 80 * WINDOW]).reshape(2, 40, -1).astype(np.float64)
    tensors = {k: torch.tensor(v).double().requires_grad_() for k, v in silero.tensors().items()}
    theirs = silero.torch_logits(tensors, torch.tensor(windows))
    scale = np.random.default_rng(0).normal(size=theirs.shape)
    (theirs * torch.tensor(scale)).sum().backward()

    weights = {k: v for k, v in named_weights(model).items() if v.trainable}
    with tf.GradientTape() as tape:
        ours = model(tf.constant(windows), training=False)
        loss = tf.reduce_sum(ours * scale)
    assert relative_error(ours, theirs.detach()) < 1e-9
    found = tape.gradient(loss, [v.value for v in weights.values()])
    gradients = {k: np.asarray(g) for k, g in zip(weights, found, strict=True)}
    frozen = {"encoder.stft_conv.kernel": np.zeros((256, 1, 258))}
    named = WEIGHTS.export(gradients | frozen)
    assert len(named) == len(tensors)
    for name, tensor in tensors.items():
        if name != "stft_conv.weight":
            assert relative_error(named[name], tensor.grad) < 1e-8, name


def test_a_save_is_the_file(model, tmp_path):
    zoo.save(model, tmp_path / "out")
    before, after = silero.tensors(), open_checkpoint([tmp_path / "out" / "model.safetensors"])
    assert sorted(after) == sorted(before)
    for name, array in before.items():
        assert after[name].dtype == array.dtype
        assert after[name].tobytes() == array.tobytes(), name
    again = zoo.load(tmp_path / "out")
    assert again.card.preprocessing == model.card.preprocessing
    assert again.task.name == "voice-activity-detection"


def test_a_keras_file_is_the_model(model, audio, probabilities, tmp_path):
    model.save(tmp_path / "vad.keras")
    again = keras.models.load_model(tmp_path / "vad.keras")
    count = 20
    found = again.speech_probabilities(audio[: count * WINDOW])
    np.testing.assert_array_equal(found, model.speech_probabilities(audio[: count * WINDOW]))
    np.testing.assert_allclose(found, probabilities[:count], atol=1e-6)
