"""Silero VAD with no reference library: stored outputs and segments, verbs, streams, training."""

import dataclasses
import gc
import hashlib
import math
import weakref

import keras
import numpy as np
import pytest
import synthetic
import synthetic_audio
import tensorflow as tf
from weights_server import web_server

import zoo
from zoo.architectures.silero_vad import (
    FAMILY,
    SileroVADConfig,
    SpectralMagnitude,
    WindowEncoder,
)
from zoo.errors import ConfigError, InputError, IntegrityError, OptionError, TaskError
from zoo.layers.building import build_uninitialized, dtype_scope, initialize, named_weights
from zoo.layers.convolution import Conv1D
from zoo.tasks import audio as audio_task
from zoo.tasks.audio import Segmenter, SegmentOptions, SpeechSegment
from zoo.weights.files import open_checkpoint, save_checkpoint

GOLDEN = synthetic.read_golden("silero_vad.json")
SHAPES = {name: tuple(shape) for name, shape in GOLDEN["tensors"].items()}
RATE, WINDOW = 16_000, 512


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A file with the names and shapes of the published one, and synthetic values."""
    path = tmp_path_factory.mktemp("silero") / "weights.safetensors"
    tensors = {k: v.astype(np.float32) for k, v in synthetic.state(SHAPES).items()}
    save_checkpoint(path, tensors, {})
    return path


@pytest.fixture(scope="module")
def model(checkpoint):
    return zoo.load("silero_vad", weights=checkpoint)


@pytest.fixture(scope="module")
def audio():
    """Five seconds and a bit: 160 windows, the last one incomplete."""
    return synthetic_audio.recording(5.1)


@pytest.fixture(scope="module")
def probabilities(model, audio):
    return model.speech_probabilities(audio)


# The network


def build(dtype, **options):
    config = FAMILY.read_config(options, origin="the test")

    def network():
        graph = FAMILY.build(config)
        return keras.Model(graph.inputs, graph.outputs)

    with dtype_scope(keras.DTypePolicy(dtype)):
        return build_uninitialized(network)


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_outputs_are_the_references(case):
    golden = GOLDEN["cases"][case]
    model, table = build("float64", **golden["config"]), FAMILY.formats.table("torch")
    weights = {k: tuple(v.shape) for k, v in named_weights(model).items()}
    shapes = {
        k: v.shape for k, v in table.export({k: np.zeros(s) for k, s in weights.items()}).items()
    }
    initialize(model, table.resolve(synthetic.state(shapes), weights).values)
    ours = model(tf.constant(synthetic_audio.windows(model.input_shape[-1]))).numpy()
    theirs = np.array(golden["logits"])
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) < 1e-9 * np.linalg.norm(theirs)


def test_the_file_goes_in_and_out_bit_for_bit(model, checkpoint, tmp_path):
    report = model.load_report
    assert (report.loaded, report.fresh, report.ignored) == (len(SHAPES), (), ())
    zoo.save(model, tmp_path / "out")
    before, after = (
        open_checkpoint([checkpoint]),
        open_checkpoint([tmp_path / "out/model.safetensors"]),
    )
    assert {k: v.shape for k, v in before.items()} == SHAPES
    assert sorted(after) == sorted(before)
    for name, array in before.items():
        assert after[name].tobytes() == array.tobytes(), name
    page = (tmp_path / "out/README.md").read_text()
    assert 'model.speech_segments("talk.wav")' in page
    assert f"| Parameters | {zoo.info('silero_vad').num_params:,} |" in page
    again = zoo.load(tmp_path / "out")
    assert again.card.preprocessing == model.card.preprocessing
    assert again.task.name == "voice-activity-detection"


def test_a_fresh_model_has_the_transform():
    """Loaded with no weights, it still is a spectrum that the convolutions read."""
    fresh = zoo.load("silero_vad", pretrained=False)
    kernel = np.asarray(named_weights(fresh)["encoder.stft_conv.kernel"])[:, 0]
    time = np.arange(256)
    window = np.sin(np.pi * time / 256) ** 2
    for k in (0, 1, 77, 128):
        angle = 2 * np.pi * k * time / 256
        np.testing.assert_allclose(kernel[:, k], window * np.cos(angle), atol=1e-6)
        np.testing.assert_allclose(kernel[:, 129 + k], -window * np.sin(angle), atol=1e-6)


def test_the_card():
    card = zoo.info("silero_vad")
    assert card.name == "silero_vad.16k"
    spec = card.preprocessing
    assert (spec.sampling_rate, spec.window, spec.context) == (RATE, WINDOW, 64)
    config = SileroVADConfig(**card.config)
    assert (config.window, config.context) == (spec.window, spec.context)
    assert card.num_params == sum(map(math.prod, SHAPES.values()))
    assert zoo.list_models(task="voice-activity-detection") == ["silero_vad.16k"]


def test_the_cards_address_is_checked_against_its_hash(checkpoint, monkeypatch, tmp_path):
    content = checkpoint.read_bytes()
    card = zoo.info("silero_vad")

    def answer(method, path, headers):
        return 200, {}, content

    def at(server, sha256):
        where = dataclasses.replace(card.weights, url=f"{server.url}/{sha256}/a", sha256=sha256)
        changed = dataclasses.replace(card, weights=where)
        monkeypatch.setattr("zoo.loading.pulling.registry.info", lambda name: changed)
        return zoo.load("silero_vad", cache_dir=tmp_path / "cache")

    with web_server(answer) as server:
        loaded = at(server, hashlib.sha256(content).hexdigest())
        assert loaded.load_report.loaded == len(SHAPES)
        with pytest.raises(IntegrityError, match=card.weights.sha256):
            at(server, card.weights.sha256)


@pytest.mark.parametrize(
    "options", [{"stride": 64}, {"strides": (1, 2, 2, 2), "window": 2048}, {"channels": (128, 64)}]
)
def test_configs_that_do_not_fit(options):
    with pytest.raises(ConfigError, match=r"leave \d+ steps of a window of \d+ samples"):
        SileroVADConfig(**options)


LAYERS = {
    "conv": (lambda **kw: Conv1D(6, 3, **kw), (2, 13, 4)),
    "conv strided": (lambda **kw: Conv1D(6, 5, strides=2, pad=1, **kw), (2, 14, 4)),
    "conv dilated": (lambda **kw: Conv1D(6, 3, dilation_rate=3, use_bias=False, **kw), (2, 13, 4)),
    "spectrum": (lambda **kw: SpectralMagnitude(16, 8, 4, **kw), (2, 60)),
    "encoder": (lambda **kw: WindowEncoder(16, 8, 4, (6, 5), (2, 4), **kw), (2, 3, 60)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_their_contract(name, monkeypatch):
    """Shapes are as they say, configs make the same layer, float64 stays, building runs nothing."""
    make, shape = LAYERS[name]
    layer, inputs = make(dtype="float64"), np.random.default_rng(0).normal(size=shape)
    outputs = layer(inputs)
    assert outputs.dtype == "float64"
    assert tuple(outputs.shape) == layer.compute_output_shape(shape)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(inputs), outputs)

    traced, fresh, original = [], make(), type(layer).call
    monkeypatch.setattr(type(layer), "call", lambda *a, **k: traced.append(a) or original(*a, **k))
    fresh(keras.Input(shape[1:]))
    assert fresh.built
    assert not traced


def test_a_convolution_is_the_sum_of_its_products():
    layer = Conv1D(2, 3, strides=2, dilation_rate=1, pad=1, dtype="float64")
    x = np.random.default_rng(0).normal(size=(1, 7, 3))
    outputs = layer(x).numpy()[0]
    kernel, padded = np.asarray(layer.kernel), np.pad(x[0], ((1, 1), (0, 0)))
    expected = [np.einsum("kc,kcf->f", padded[i : i + 3], kernel) for i in range(0, 7, 2)]
    np.testing.assert_allclose(outputs, expected, atol=1e-12)


def test_the_spectrum_is_that_of_numpy():
    layer = SpectralMagnitude(16, 8, 4, dtype="float64")
    x = np.random.default_rng(0).normal(size=60)
    mirrored = np.concatenate([x, x[-2:-6:-1]])
    frames = [
        mirrored[i : i + 16] * np.sin(np.pi * np.arange(16) / 16) ** 2 for i in range(0, 49, 8)
    ]
    np.testing.assert_allclose(layer(x[None])[0], abs(np.fft.rfft(frames)), atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "mixed_bfloat16", "float16"])
def test_dtypes(checkpoint, audio, probabilities, dtype):
    found = zoo.load("silero_vad", weights=checkpoint, dtype=dtype).speech_probabilities(audio)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, probabilities, atol=1e-6 if dtype == "float64" else 0.02)


def test_a_keras_file_is_the_model(model, audio, probabilities, tmp_path):
    model.save(tmp_path / "vad.keras")
    again = keras.models.load_model(tmp_path / "vad.keras")
    assert again.preprocess == model.preprocess
    np.testing.assert_array_equal(again.speech_probabilities(audio), probabilities)


def test_training(checkpoint):
    """Its own loss takes logits; the transform stays; silence gives no NaN."""
    model = zoo.load("silero_vad", weights=checkpoint)
    model.compile("adam")
    basis = np.array(named_weights(model)["encoder.stft_conv.kernel"])
    windows = np.zeros((4, 6, 576), np.float32)
    windows[:2] = synthetic_audio.windows(576)[:, :6]
    speech = np.zeros((4, 6), np.float32)
    speech[:2] = 1
    history = model.fit(windows, speech, epochs=8, batch_size=4, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert history[-1] < 0.9 * history[0]
    np.testing.assert_array_equal(named_weights(model)["encoder.stft_conv.kernel"], basis)


# Verbs


def test_probabilities(model, audio, probabilities):
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (160,)
    logits = model(tf.constant(model.preprocess(audio))).numpy()[0]
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert probabilities.std() > 0.005  # they do depend on the audio


def test_a_list_gives_a_list(model, audio, probabilities):
    found = model.speech_probabilities(
        [audio, audio[: 3 * WINDOW], (audio * 32767).astype(np.int16)]
    )
    assert [len(row) for row in found] == [160, 3, 160]
    np.testing.assert_array_equal(found[0], probabilities)
    np.testing.assert_allclose(found[1], probabilities[:3], atol=1e-6)
    np.testing.assert_allclose(found[2], probabilities, atol=1e-3)
    assert model.speech_probabilities([]) == model.speech_segments([]) == []
    assert model.speech_segments((audio, audio)) == [model.speech_segments(audio)] * 2


def test_other_rates(model, audio):
    twice = np.repeat(audio, 2)
    found = model.speech_probabilities(twice, sampling_rate=2 * RATE)
    samples = model.preprocess.read(twice, sampling_rate=2 * RATE)
    np.testing.assert_array_equal(found, model.speech_probabilities(samples))


@pytest.mark.parametrize("block", [1, 7, 160, 161])
def test_long_recordings_run_in_blocks(model, audio, probabilities, monkeypatch, block):
    monkeypatch.setattr(audio_task, "BLOCK", block)
    found = model.speech_probabilities(audio)
    np.testing.assert_allclose(found, probabilities, atol=1e-6)


def test_no_length_is_traced_anew(checkpoint, monkeypatch):
    model = zoo.load("silero_vad", weights=checkpoint)
    for windows in (1, 2):
        model.speech_probabilities(np.zeros(windows * WINDOW, np.float32))
    monkeypatch.setattr(WindowEncoder, "call", None)
    for count in (100, 5 * WINDOW, 33 * WINDOW + 1, 64 * WINDOW):
        assert len(model.speech_probabilities(np.zeros(count, np.float32))) == -(-count // WINDOW)


def test_a_model_that_goes_takes_its_passes_with_it(checkpoint):
    model = zoo.load("silero_vad", weights=checkpoint)
    model.speech_probabilities(np.zeros(WINDOW, np.float32))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_verbs_of_other_tasks(model):
    with pytest.raises(TaskError, match=r"has no verb 'classify'; it has speech_probabilities, "):
        model.classify("a.wav")
    with pytest.raises(InputError, match="Recording 1 of 2"):
        model.speech_probabilities([np.zeros(9), np.zeros(0)])
    image_model = zoo.load("test_resnet", pretrained=False)
    with pytest.raises(TaskError, match="has no verb 'stream'"):
        image_model.stream()


def test_windows_of_another_size_than_the_cards():
    options = {"window": 256, "context": 32, "n_fft": 128, "stride": 64, "pad": 32}
    model = zoo.load("silero_vad", pretrained=False, **options)
    assert model(np.zeros((1, 2, 288), np.float32)).shape == (1, 2)
    with pytest.raises(TaskError, match=r"takes windows of 288 samples .* is that for 16000 Hz, "):
        model.speech_probabilities(np.zeros(999))


# Streams


@pytest.mark.parametrize("longest", [1, 100, 5000])
def test_a_stream_is_the_whole(model, audio, probabilities, longest):
    rng = np.random.default_rng(longest)
    audio = audio[: 600 * longest]
    stream, found, start = model.stream(), [], 0
    while start < len(audio):
        chunk = audio[start : start + int(rng.integers(1, longest + 1))]
        start += len(chunk)
        found.append(stream.push(chunk))
        assert sum(map(len, found)) == start // WINDOW
    found.append(stream.flush())
    expected = model.speech_probabilities(audio)
    np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-6)
    assert all(part.dtype == np.float32 for part in found)
    assert stream.segments == model.speech_segments(audio)


def test_a_stream_of_other_samples(model, audio, probabilities):
    stream = model.stream()
    assert stream.push([]).shape == (0,)
    found = stream.push((audio[: 2 * WINDOW, None] * 32767).astype(np.int16))
    np.testing.assert_allclose(found, probabilities[:2], atol=1e-3)
    with pytest.raises(InputError, match="The chunk has nan at"):
        stream.push([np.nan])


def test_a_stream_begins_again(model, audio):
    stream = model.stream()
    first = stream.push(audio[:5000])
    assert stream.flush().shape == (1,)
    with pytest.raises(InputError, match=r"has ended \(flush\)"):
        stream.push(audio)
    stream.reset()
    assert stream.segments == []
    np.testing.assert_array_equal(stream.push(audio[:5000]), first)
    stream.reset()
    stream.push(audio[: 4 * WINDOW])
    assert stream.flush().shape == (0,)  # nothing was left
    assert model.stream().flush().shape == (0,)


def test_a_long_chunk_runs_in_blocks(model, audio, probabilities, monkeypatch):
    monkeypatch.setattr(audio_task, "BLOCK", 50)
    stream = model.stream()
    found = np.concatenate([stream.push(audio), stream.flush()])
    np.testing.assert_allclose(found, probabilities, atol=1e-6)


# Segments


def segmenter(**options):
    return Segmenter(SegmentOptions(**options), window=WINDOW, sampling_rate=RATE)


def in_samples(segments):
    return [[round(s.start * RATE), round(s.end * RATE)] for s in segments]


@pytest.mark.parametrize("seed", range(len(GOLDEN["segments"])))
def test_segments_are_the_references(seed):
    rng = np.random.default_rng(seed)
    values = synthetic_audio.probabilities(rng)
    cutter = segmenter(**synthetic_audio.segment_options(rng))
    for part in np.array_split(values, 4):
        cutter.push(part)
    assert in_samples(cutter.segments(len(values) * WINDOW)) == GOLDEN["segments"][seed]


def test_the_stored_segments_are_of_many_kinds():
    counts = [len(segments) for segments in GOLDEN["segments"]]
    assert min(counts) <= 2
    assert max(counts) > 15


def test_speech_between_silences():
    cutter = segmenter(speech_pad=0.0, min_silence=0.1)
    cutter.push([0.1] * 10 + [0.9] * 20 + [0.1] * 10 + [0.9] * 5 + [0.1] * 5)
    (segment,) = cutter.segments(50 * WINDOW)  # the second stretch of speech is too short
    assert segment == SpeechSegment(start=10 * WINDOW / RATE, end=30 * WINDOW / RATE)


def test_speech_that_goes_on_ends_with_the_recording():
    cutter = segmenter()
    cutter.push([0.9] * 20)
    assert in_samples(cutter.segments(20 * WINDOW - 100)) == [[0, 20 * WINDOW - 100]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, r"threshold is 1\.5; a probability, 0 to 1"),
        ({"neg_threshold": -0.1}, r"neg_threshold is -0\.1; a probability"),
        ({"neg_threshold": 0.6}, r"neg_threshold is 0\.6, above threshold, which is 0\.5"),
        ({"min_speech": -1}, r"min_speech is -1; seconds, 0 or more"),
        ({"max_speech": math.nan}, r"max_speech is nan; seconds"),
        ({"min_silence_ms": 100}, r"'min_silence_ms' is no option .* mean 'min_silence'"),
    ],
)
def test_options_that_make_no_sense(model, options, message):
    for verb in (lambda **o: model.speech_segments(np.zeros(9), **o), model.stream):
        with pytest.raises(OptionError, match=message):
            verb(**options)
