"""`zoo predict` on recordings: segments as text, as JSON and as a picture."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import synthetic
import synthetic_audio
from PIL import Image

import zoo
from zoo.weights.files import save_checkpoint

SHAPES = synthetic.read_golden("silero_vad.json")["tensors"]
THRESHOLD = 0.4


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The folder of a model that takes whatever is loud for speech, more or less, and the model.

    Its weights are synthetic, with the last bias set so that the threshold divides a recording.
    """
    folder = tmp_path_factory.mktemp("detector")
    tensors = {k: v.astype(np.float32) for k, v in synthetic.state(SHAPES).items()}
    file = folder / "weights.safetensors"
    save_checkpoint(file, tensors, {})
    found = zoo.load("silero_vad", weights=file).speech_probabilities(recording())
    logits = np.log(found / (1 - found))
    tensors["final_conv.bias"] -= np.median(logits).astype(np.float32)
    tensors["final_conv.bias"] += np.float32(np.log(THRESHOLD / (1 - THRESHOLD)))
    save_checkpoint(file, tensors, {})
    model = zoo.load("silero_vad", weights=file)
    zoo.save(model, folder / "model")
    return folder / "model", model


def recording():
    return synthetic_audio.recording(8)


def write(path, samples, rate=16_000):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())


@pytest.fixture
def talks(tmp_path):
    """A folder with two recordings, one broken, and other things."""
    folder = tmp_path / "talks"
    folder.mkdir()
    write(folder / "b.wav", recording())
    write(folder / "a.WAV", recording()[:50_000])
    (folder / "broken.wav").write_bytes((folder / "b.wav").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no recording, by its name")
    Image.new("RGB", (9, 9)).save(folder / "picture.png")
    return folder


def entry(model, path):
    samples = model.preprocess.read(path)
    segments = model.speech_segments(samples, threshold=THRESHOLD)
    assert segments
    return {
        "recording": str(path),
        "seconds": len(samples) / 16_000,
        "segments": [{"start": s.start, "end": s.end} for s in segments],
    }


def test_json_of_a_folder(cli, detector, talks):
    folder, model = detector
    result = cli("predict", folder, talks, "--json", "--threshold", THRESHOLD, code=1)
    assert json.loads(result.stdout) == [entry(model, talks / n) for n in ("a.WAV", "b.wav")]
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Skipped: The audio, '{talks / 'broken.wav'}', is cut short")


def test_json_of_files(cli, detector, talks):
    folder, model = detector
    paths = [talks / "b.wav", talks / "a.WAV"]
    result = cli("predict", folder, *paths, "--json", "--threshold", THRESHOLD)
    assert result.stderr == ""
    assert json.loads(result.stdout) == [entry(model, path) for path in paths]


def test_a_table_for_each_recording(cli, detector, talks):
    folder, model = detector
    path = talks / "b.wav"
    lines = cli("predict", folder, path, "--threshold", THRESHOLD).stdout.splitlines()
    segments = model.speech_segments(path, threshold=THRESHOLD)
    assert lines[0] == str(path)
    assert lines[1].split() == ["start", "end", "seconds"]
    rows = [(f"{s.start:.2f}", f"{s.end:.2f}", f"{s.end - s.start:.2f}") for s in segments]
    assert [tuple(line.split()) for line in lines[2:-2]] == rows
    total = sum(s.end - s.start for s in segments)
    assert lines[-2:] == [f"speech in {total:.2f} of 8.00 seconds", ""]


def test_no_speech(cli, detector, talks):
    arguments = [detector[0], talks / "b.wav", "--threshold", "1"]
    assert cli("predict", *arguments).stdout.splitlines()[1:] == [
        "speech in 0.00 of 8.00 seconds",
        "",
    ]
    assert json.loads(cli("predict", *arguments, "--json").stdout)[0]["segments"] == []


def test_a_folder_with_no_recording(cli, detector, tmp_path):
    (tmp_path / "empty").mkdir()
    result = cli("predict", detector[0], tmp_path / "empty", "--json", code=1)
    assert result.stdout == "[]\n"
    assert (
        result.stderr
        == f"Skipped: The folder {tmp_path / 'empty'} has no recording in it (.wav).\n"
    )


@pytest.mark.parametrize("name", ["talk.png", "talk $x^{ $.svg"])
def test_a_picture(cli, detector, talks, name):
    pytest.importorskip("matplotlib")
    path = talks / name.replace(".", "-") / "b.wav"
    path.parent.mkdir()
    path.write_bytes((talks / "b.wav").read_bytes())
    cli("predict", detector[0], path, "--threshold", THRESHOLD, "--plot", name)
    if name.endswith("svg"):
        assert "probability" in Path(name).read_text()
        return
    with Image.open(name) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape == (540, 1320, 3)
    colours = {tuple(p) for p in pixels.reshape(-1, 3)[::7].tolist()}
    for drawn in (0x5F6B7A, 0x0B5CAD, 0xFFE3A6, 0xB3261E):  # waveform, line, speech, threshold
        assert (drawn >> 16, drawn >> 8 & 255, drawn & 255) in colours


def test_the_picture_shows_the_segments(detector):
    pytest.importorskip("matplotlib")
    from zoo.cli.plots import speech_figure

    _, model = detector
    samples = recording()
    segments = model.speech_segments(samples, threshold=THRESHOLD)
    probabilities = model.speech_probabilities(samples)
    figure = speech_figure(
        samples, probabilities, segments, sampling_rate=16_000, window=512,
        threshold=THRESHOLD, title="talk $1.wav",
    )  # fmt: skip
    for axes in figure.axes:
        boxes = [p for p in axes.patches if hasattr(p, "get_width")]
        spans = [(box.get_x(), box.get_x() + box.get_width()) for box in boxes]
        np.testing.assert_allclose(spans, [(s.start, s.end) for s in segments])
        assert axes.get_xlim() == (0, 8)
    (line,) = (p for p in figure.axes[1].patches if hasattr(p, "get_data"))
    np.testing.assert_array_equal(line.get_data().values, probabilities)


def test_pictures_without_matplotlib(cli, detector, talks, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = cli("predict", detector[0], talks / "b.wav", "--plot", "talk.png", code=1)
    assert "needs matplotlib, which is not installed: `pip install matplotlib`" in result.stderr
    assert result.stdout == ""
    assert not Path("talk.png").exists()


def test_pictures_that_cannot_be(cli, detector, talks):
    pytest.importorskip("matplotlib")
    pair = [talks / "a.WAV", talks / "b.wav"]
    several = cli("predict", detector[0], *pair, "--plot", "talk.png", code=1)
    assert "--plot draws one recording; 2 were given" in several.stderr
    strange = cli("predict", detector[0], pair[0], "--plot", "talk.exe", code=1)
    assert "talk.exe names no format of a picture; its suffix should be one of" in strange.stderr
    assert list(Path().iterdir()) == []


def test_options_of_other_models(cli, detector, tiny, talks):
    audio = cli("predict", detector[0], talks / "b.wav", "--top", 2, code=1)
    assert "--top is not for models that do voice-activity-detection" in audio.stderr
    image = cli("predict", tiny[0], talks / "picture.png", "--plot", "a.png", code=1)
    assert "--plot is not for models that do image-classification" in image.stderr


def test_an_image_is_no_recording(cli, detector, talks):
    result = cli("predict", detector[0], talks / "picture.png", code=1)
    assert result.stderr.startswith(
        f"Skipped: The audio, '{talks / 'picture.png'}', is no WAV file"
    )


def test_a_folder_of_both_kinds(cli, tiny, talks):
    (only,) = json.loads(cli("predict", tiny[0], talks, "--json").stdout)
    assert only["image"] == str(talks / "picture.png")


def test_predict_refuses_what_is_neither_image_nor_recording(cli):
    Path("rows.txt").write_text("1 2 3")
    refused = cli("predict", "lstm_mini.digits", "rows.txt", code=1)
    assert "does nothing with models that do sequence-classification" in refused.stderr
    assert "in Python there is model.classify" in refused.stderr
