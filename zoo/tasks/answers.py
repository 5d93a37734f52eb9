"""Tasks of text models that look for words: answers in a text, tokens for a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

import keras
import numpy as np

from zoo.errors import InputError
from zoo.options import count
from zoo.tasks.base import softmax
from zoo.tasks.text import TextTask

# ---------------------------------------------------------------- answers


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A part of a text that answers a question, or that the text has no answer.

    Attributes:
        text: the part; an empty one says that there is no answer.
        start, end: its first character in the text, and one past its last; both 0 for no answer.
        score: probability that it begins and ends there.
    """

    text: str
    start: int
    end: int
    score: float


class QuestionAnswering(TextTask):
    """Questions and texts to the parts of the texts that answer them: `answer`."""

    name = "question-answering"
    verbs: ClassVar[tuple[str, ...]] = ("answer",)
    headless = "feature-extraction"
    example = "model.answer(question, context)"

    def answer(
        self,
        question: str,
        context: str,
        *,
        top: int = 1,
        no_answer: bool = True,
        max_answer_tokens: int = 15,
        window: int = 384,
        stride: int = 128,
        batch_size: int = 8,
    ) -> list[Answer]:
        """The parts of a text that best answer a question, best first; one with an empty text says
        that there is no answer.

        The score is `p(start) p(end)`, each a softmax over the tokens of the text and the first
        token, `[CLS]` or `<s>`, by which a model says that it sees no answer in a window (Devlin
        et al., arXiv:1810.04805, section 4.3). So it is in transformers' pipeline
        (`select_starts_ends`, with `handle_impossible_answer` for `no_answer`), where "no answer"
        has the least of its scores in all windows, as in SQuAD 2. Models trained without such
        questions give it little.

        Args:
            question, context: the question, and the text; one that is longer than a window is read
                in several, each of which begins with the end of the one before.
            top: answers, none of which lies in another.
            no_answer: whether "no answer" is one of them, where its score is among the best. A
                model whose tokenizer has no first token of its own, such as GPT-2, never says so.
            max_answer_tokens: tokens of the longest answer.
            window, stride: tokens of a window with its question, and of what two windows share.
            batch_size: windows per pass.

        Raises:
            InputError: an empty question or text, or a question that leaves no room.
        """
        if not (isinstance(question, str) and isinstance(context, str)):
            raise InputError("answer takes a question and a context, both texts.")
        if not question.strip() or not context.strip():
            raise InputError("The question or the context is empty; there is nothing to answer.")
        top = count("top", top, error=InputError)
        max_answer_tokens = count("max_answer_tokens", max_answer_tokens, error=InputError)
        window, stride = count("window", window), count("stride", stride, 0)
        encodings = self._windows(question, context, window, stride)
        cls = self.preprocess.id_of("cls")

        def found(encoding: Any, row: np.ndarray) -> tuple[list[Answer], float | None]:
            logits = self.unpadded(encoding, row)
            return _answers(context, encoding, logits, cls, top, max_answer_tokens)

        windows = self.rows(encodings, batch_size, "answer", reduce=found)
        answers = list(chain.from_iterable(parts for parts, _ in windows))
        nothing = [score for _, score in windows if score is not None]
        if no_answer and nothing:
            answers.append(Answer(text="", start=0, end=0, score=min(nothing)))
        return _apart(sorted(answers, key=lambda a: -a.score), top)

    def _windows(self, question: str, context: str, window: int, stride: int) -> list[Any]:
        """The question with each window of the text."""
        tokenizer = self.preprocess.tokenizer
        limit = min(window, self.preprocess.spec.max_length or window)
        asked = len(self.preprocess.encode([question], truncate=False)[0])
        room = limit - asked - tokenizer.num_special_tokens_to_add(True)
        if room < 1:
            raise InputError(
                f"The question has {asked} tokens, which leaves no room in {limit}. Shorten it, or "
                "take a larger window."
            )
        stride = min(stride, room - 1)
        tokenizer.enable_truncation(limit, stride=stride, strategy="only_second")
        first = tokenizer.encode(question, context)
        return [first, *first.overflowing]


def _answers(
    context: str, encoding: Any, logits: np.ndarray, cls: int | None, top: int, longest: int
) -> tuple[list[Answer], float | None]:
    """The best parts of one window, and the score of none; `logits` are `[t, 2]`.

    Args:
        cls: the token that stands for no answer; None: the model has none.
    """
    inside = np.array([part == 1 for part in encoding.sequence_ids])
    first = np.array(encoding.ids) == cls
    start, end = softmax(np.where((inside | first)[:, None], logits, -1e4).T)
    none = float((start * end)[first.argmax()]) if first.any() else None
    scores = np.outer(start * inside, end * inside)
    scores = np.triu(scores) - np.triu(scores, longest)
    answers = []
    for place in np.argsort(-scores, axis=None)[: 4 * top]:
        left, right = divmod(int(place), len(end))
        if scores[left, right] > 0:
            begin, stop = encoding.offsets[left][0], encoding.offsets[right][1]
            score = float(scores[left, right])
            answers.append(Answer(text=context[begin:stop], start=begin, end=stop, score=score))
    return answers, none


def _apart(answers: Sequence[Answer], top: int) -> list[Answer]:
    """The first of the answers, without those that overlap a better one."""
    kept: list[Answer] = []
    for answer in answers:
        if all(answer.end <= other.start or other.end <= answer.start for other in kept):
            kept.append(answer)
        if len(kept) == top:
            break
    return kept


# ---------------------------------------------------------------- missing words


@dataclass(frozen=True, kw_only=True)
class Filling:
    """A token for a masked place.

    Attributes:
        token: its text.
        index: its id.
        score: its probability.
        text: the whole text with it.
    """

    token: str
    index: int
    score: float
    text: str


class FillMask(TextTask):
    """Texts with a masked token to what may stand there: `fill`."""

    name = "fill-mask"
    verbs: ClassVar[tuple[str, ...]] = ("fill",)
    headed = "text-classification"
    headless = "feature-extraction"
    example = 'model.fill("Paris is the [MASK] of France.")'

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-100)

    def fill(
        self, inputs: Any, top: int = 5, *, batch_size: int = 8, truncate: bool = True
    ) -> list[list[Filling]]:
        """The `top` most probable tokens for the masked place of each text, best first.

        Args:
            inputs: a text, or a list of texts; each has the model's mask token once.
            top: tokens per text.
            batch_size: texts per pass.
            truncate: as for every text model.

        Raises:
            InputError: a text without the mask token, or with several of them.
        """
        top = count("top", top, error=InputError)
        mask, encodings = self.preprocess.id_of("mask"), self.encoded(inputs, truncate=truncate)
        for k, encoding in enumerate(encodings):
            if encoding.ids.count(mask) != 1:
                raise InputError(
                    f"Text {k} has the mask token {self.preprocess.spec.special.get('mask')!r} "
                    f"{encoding.ids.count(mask)} times; once was expected."
                )

        def filled(encoding: Any, row: np.ndarray) -> list[Filling]:
            logits = self.unpadded(encoding, row)[encoding.ids.index(mask)]
            return list(self._fillings(encoding, softmax(logits), top))

        return self.rows(encodings, batch_size, "fill", reduce=filled)

    def _fillings(self, encoding: Any, scores: np.ndarray, top: int) -> Iterator[Filling]:
        place = encoding.ids.index(self.preprocess.id_of("mask"))
        for k in np.argsort(-scores, kind="stable")[:top]:
            ids = [*encoding.ids[:place], int(k), *encoding.ids[place + 1 :]]
            yield Filling(
                token=self.preprocess.decode([k], special=True),
                index=int(k),
                score=float(scores[k]),
                text=self.preprocess.decode(ids),
            )
