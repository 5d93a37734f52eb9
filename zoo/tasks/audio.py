"""Tasks of audio models: where people speak."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from zoo.errors import InputError, OptionError, TaskError
from zoo.options import flag, number, options_of
from zoo.preprocessing.audio import AudioPreprocessor, mono, named_recordings
from zoo.tasks.base import Task, binary_accuracy, sigmoid
from zoo.tasks.decoding import Decoder

BLOCK = 2048  # windows per pass: what a pass needs does not grow with the recording


@dataclass(frozen=True, kw_only=True)
class SpeechSegment:
    """A stretch of speech.

    Attributes:
        start, end: seconds from the beginning of the recording.
    """

    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """What makes speech of probabilities; all spans in seconds.

    Attributes:
        threshold: windows of at least this probability are speech.
        neg_threshold: speech may end where the probability falls below this; None is 0.15 below
            `threshold`, and at least 0.01.
        min_speech: shorter speech is dropped.
        max_speech: longer speech is cut: in a silence, or where it is too long if there is none.
        min_silence: a silence this long ends speech.
        speech_pad: added at both ends of speech; neighbours share the silence between them.
        min_silence_at_max_speech: a silence must be longer than this to cut in.
        cut_at_longest_silence: cut speech that is too long in its longest silence that is over;
            False: in its last, even if it goes on.

    Raises:
        OptionError: a probability outside of 0..1, a `neg_threshold` above `threshold`, or a span
            that is negative.
    """

    threshold: float = 0.5
    neg_threshold: float | None = None
    min_speech: float = 0.25
    max_speech: float = math.inf
    min_silence: float = 0.1
    speech_pad: float = 0.03
    min_silence_at_max_speech: float = 0.098
    cut_at_longest_silence: bool = True

    def __post_init__(self) -> None:
        for name in ("threshold", "neg_threshold"):
            if (value := getattr(self, name)) is not None:
                number(name, value, 0, 1, unit="a probability")
        if self.neg_threshold is not None and self.neg_threshold > self.threshold:
            raise OptionError(
                f"neg_threshold is {self.neg_threshold}, above threshold, which is "
                f"{self.threshold}: one window could begin speech and end it."
            )
        spans = ("min_speech", "max_speech", "min_silence", "speech_pad")
        for name in (*spans, "min_silence_at_max_speech"):
            number(name, getattr(self, name), 0, unit="seconds")
        flag("cut_at_longest_silence", self.cut_at_longest_silence)


class VoiceActivity(Task):
    """Recordings to speech: its probability over time, and the stretches that hold it."""

    name = "voice-activity-detection"
    verbs = ("speech_probabilities", "speech_segments", "stream")
    example = 'model.speech_segments("talk.wav")'

    def loss(self) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(from_logits=True)

    def accuracy(self, name: str) -> keras.metrics.Metric:
        return binary_accuracy(name)

    @property
    def preprocess(self) -> AudioPreprocessor:
        """The model's preprocessing.

        Raises:
            TaskError: its card has none, or one for windows of another size.
        """
        preprocess, size = self.model.preprocess, self.model.inputs[0].shape[-1]
        if preprocess is None or preprocess.spec.context + preprocess.spec.window != size:
            found = f"that for {preprocess.spec.summary}" if preprocess else "none"
            raise TaskError(
                f"{self.model.name!r} takes windows of {size} samples with their context, and the "
                f"preprocessing on its card is {found}. Call the model on windows that you cut "
                "yourself."
            )
        return preprocess

    def speech_probabilities(
        self, audio: Any, *, sampling_rate: int | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """The probability of speech in each window.

        Args:
            audio: one recording as `AudioPreprocessor.read` takes it, or a list or tuple of them.
            sampling_rate: of arrays, in Hz; None is the model's. Files know their own.

        Returns:
            float32 `[windows]`, where window i begins after i * window / sampling_rate seconds of
            the spec; a list of these for a list.

        Raises:
            InputError, NotFoundError, AccessError: as `AudioPreprocessor.read`.
        """
        rows = [
            self._probabilities(samples)
            for samples in self._recordings(audio, sampling_rate, "speech_probabilities")
        ]
        return rows if isinstance(audio, (list, tuple)) else rows[0]

    def speech_segments(
        self, audio: Any, *, sampling_rate: int | None = None, **options: Any
    ) -> list[SpeechSegment] | list[list[SpeechSegment]]:
        """The stretches of speech, first to last.

        Args:
            audio, sampling_rate: as `speech_probabilities` takes them.
            options: fields of `SegmentOptions`: threshold, neg_threshold, min_speech, max_speech,
                min_silence, speech_pad, min_silence_at_max_speech, cut_at_longest_silence.

        Returns:
            list of `SpeechSegment`; a list of lists for a list of recordings.

        Raises:
            OptionError: an option that is out of range.
            InputError, NotFoundError, AccessError: as `AudioPreprocessor.read`.
        """
        chosen = options_of(SegmentOptions, options, "speech segments")
        found = [
            self._segments(self._probabilities(samples), len(samples), chosen)
            for samples in self._recordings(audio, sampling_rate, "speech_segments")
        ]
        return found if isinstance(audio, (list, tuple)) else found[0]

    def find_segments(
        self, probabilities: np.ndarray, length: int, **options: Any
    ) -> list[SpeechSegment]:
        """The stretches of speech by the probabilities of a recording of `length` samples.

        Raises:
            OptionError: an option that is not there or out of range.
        """
        return self._segments(
            probabilities, length, options_of(SegmentOptions, options, "speech segments")
        )

    def _segments(
        self, probabilities: np.ndarray, length: int, options: SegmentOptions
    ) -> list[SpeechSegment]:
        segmenter = self.segmenter(options)
        segmenter.push(probabilities)
        return segmenter.segments(length)

    def segmenter(self, options: SegmentOptions) -> Segmenter:
        """What makes segments of this model's probabilities."""
        spec = self.preprocess.spec
        return Segmenter(options, window=spec.window, sampling_rate=spec.sampling_rate)

    def stream(self, **options: Any) -> SpeechStream:
        """Work on a recording while it comes in.

        Args:
            options: fields of `SegmentOptions`, for the stream's `segments`.

        Raises:
            OptionError: an option that is out of range.
        """
        return SpeechStream(self, options_of(SegmentOptions, options, "speech segments"))

    def reader(self) -> Callable[[np.ndarray], np.ndarray]:
        """What gives the probabilities `[t]` of one recording's next windows, from its first on:
        `[t, context + window]`."""
        decoder, dtype = Decoder(self.model, 1, every=True), self.model.inputs[0].dtype
        return lambda windows: sigmoid(decoder.read(windows[None].astype(dtype, copy=False))[0])

    def _recordings(self, audio: Any, sampling_rate: int | None, verb: str) -> Iterator[np.ndarray]:
        """The samples of one recording after another, read when it is its turn."""
        for ((name, item),) in self.batches(named_recordings(audio), 1, verb):
            yield self.preprocess.read_named(name, item, sampling_rate=sampling_rate)

    def _probabilities(self, samples: np.ndarray) -> np.ndarray:
        windows, read = self.preprocess.windows(samples), self.reader()
        return np.concatenate([read(block) for block in self.batches(windows, BLOCK, "speech")])


# ---------------------------------------------------------------- streaming


class SpeechStream:
    """A recording that comes in piece by piece; the results are those of the whole.

    Feed it with `push`, end the recording with `flush`; `reset` begins another one.

    Args:
        task: of the model.
        options: for `segments`.
    """

    def __init__(self, task: VoiceActivity, options: SegmentOptions) -> None:
        self._task, self._options = task, options
        self._spec = task.preprocess.spec
        self.reset()

    def reset(self) -> None:
        """Forget what came so far."""
        self._segmenter = self._task.segmenter(self._options)
        self._read = self._task.reader()
        self._waiting = np.zeros(self._spec.context, np.float32)  # context, then new samples
        self._samples = 0
        self._ended = False

    def push(self, chunk: np.ndarray) -> np.ndarray:
        """Add samples, as many as there are.

        Args:
            chunk: array `[t]` or `[t, channels]` as `AudioPreprocessor.read` takes it, at the
                spec's sampling rate; it may be empty.

        Returns:
            float32 `[windows]`: the probability of speech in each window that is complete now.

        Raises:
            InputError: samples of another kind, or after `flush`.
        """
        if self._ended:
            raise InputError("This stream has ended (flush). Begin another recording with reset.")
        chunk = np.asarray(chunk)
        if chunk.size == 0:
            return np.zeros(0, np.float32)
        samples = mono(chunk, "The chunk")
        self._samples += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        return self._run()

    def flush(self) -> np.ndarray:
        """End the recording: the last window is filled up with zeros.

        Returns:
            float32, `[1]`, or `[0]` where no window was left incomplete.
        """
        self._ended = True
        missing = -(len(self._waiting) - self._spec.context) % self._spec.window
        self._waiting = np.pad(self._waiting, (0, missing))
        return self._run()

    @property
    def segments(self) -> list[SpeechSegment]:
        """Speech so far, by the stream's options; the last one may still change before `flush`."""
        return self._segmenter.segments(self._samples)

    def _run(self) -> np.ndarray:
        """Run what windows are complete, and keep the context of the next."""
        window, context = self._spec.window, self._spec.context
        count = (len(self._waiting) - context) // window
        parts = [np.zeros(0, np.float32)]
        for start in range(0, count, BLOCK):
            end = min(start + BLOCK, count) * window + context
            view = np.lib.stride_tricks.sliding_window_view(
                self._waiting[start * window : end], context + window
            )
            parts.append(self._read(view[::window]))
        self._waiting = self._waiting[count * window :]
        self._segmenter.push(np.concatenate(parts))
        return np.concatenate(parts)


# ---------------------------------------------------------------- segments


class Segmenter:
    """Probabilities of windows to segments, one window after another.

    Its rules are those of `get_speech_timestamps` of silero-vad. Times inside are whole samples.

    Args:
        options: thresholds and spans.
        window: samples from one probability to the next.
        sampling_rate: in Hz.
    """

    def __init__(self, options: SegmentOptions, *, window: int, sampling_rate: int) -> None:
        def samples(seconds: float) -> float:
            return seconds if math.isinf(seconds) else round(seconds * sampling_rate)

        low = options.neg_threshold
        self._high = options.threshold
        self._low = max(options.threshold - 0.15, 0.01) if low is None else low
        self._window, self._rate = window, sampling_rate
        self._pad = int(samples(options.speech_pad))
        self._min_speech = samples(options.min_speech)
        self._max_speech = samples(options.max_speech) - window - 2 * self._pad
        self._min_silence = samples(options.min_silence)
        self._min_cut = samples(options.min_silence_at_max_speech)
        self._longest = options.cut_at_longest_silence

        self._now = 0  # first sample of the window
        self._done: list[tuple[int, int]] = []
        self._start: int | None = None  # of the speech that goes on
        self._forget_silences()

    def _forget_silences(self) -> None:
        """Inside of the speech that goes on, from here."""
        self._silence: int | None = None  # where the present silence began
        self._silences: list[tuple[int, int]] = []  # those that are over: begin and end
        self._cut: tuple[int, int | None] | None = None  # the last one to cut in, perhaps open

    def push(self, probabilities: Iterable[float]) -> None:
        """Take the next windows."""
        for probability in probabilities:
            self._step(float(probability))
            self._now += self._window

    def _step(self, probability: float) -> None:
        if probability >= self._high:
            self._end_silence()
            if self._start is None:
                self._start = self._now
                return
        if self._start is None:
            return
        if self._now - self._start > self._max_speech and not self._cut_speech(self._start):
            return
        if probability < self._low and self._start is not None:
            self._lengthen_silence(self._start)

    def _end_silence(self) -> None:
        if self._silence is None:
            return
        if self._now - self._silence > self._min_cut:
            self._silences.append((self._silence, self._now))
        if self._cut is not None and self._cut[1] is None:
            self._cut = (self._cut[0], self._now)
        self._silence = None

    def _cut_speech(self, start: int) -> bool:
        """End speech that is too long. False: this window takes no further part."""
        cut = self._cut
        if self._longest:
            cut = max(self._silences, key=lambda silence: silence[1] - silence[0], default=None)
        if cut is None:
            self._end_speech((start, self._now))
            return False
        end, resumed = cut
        self._end_speech((start, end), resumed)
        return True

    def _lengthen_silence(self, start: int) -> None:
        if self._silence is None:
            self._silence = self._now
        length = self._now - self._silence
        if not self._longest and length > self._min_cut:
            self._cut = (self._silence, None)
        if length >= self._min_silence:
            long_enough = self._silence - start > self._min_speech
            self._end_speech((start, self._silence) if long_enough else None)

    def _end_speech(self, kept: tuple[int, int] | None, resumed: int | None = None) -> None:
        """The speech that goes on ends. What is `kept` of it, and where speech goes on at once."""
        if kept is not None:
            self._done.append(kept)
        self._start = resumed
        self._forget_silences()

    def segments(self, length: int) -> list[SpeechSegment]:
        """Segments of a recording that is `length` samples long so far, padded."""
        found = list(self._done)
        if self._start is not None and length - self._start > self._min_speech:
            found.append((self._start, length))
        starts = [start for start, _ in found]
        ends = [end for _, end in found]
        for i, (start, end) in enumerate(zip(starts[1:], list(ends), strict=False)):
            between = start - end
            # neighbours share a silence that is too short for both pads
            shared = between // 2 if between < 2 * self._pad else self._pad
            ends[i], starts[i + 1] = min(length, end + shared), max(0, start - shared)
        if found:
            starts[0], ends[-1] = max(0, starts[0] - self._pad), min(length, ends[-1] + self._pad)
        return [
            SpeechSegment(start=start / self._rate, end=end / self._rate)
            for start, end in zip(starts, ends, strict=True)
        ]
