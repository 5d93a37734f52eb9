"""Scores of answers against transformers, live: its pipelines' own choice of a part."""

import numpy as np
import pytest
from text_models import transformers  # noqa: F401  (imported as a CPU needs it)
from transformers.pipelines.document_question_answering import select_starts_ends

from zoo.tasks.answers import _answers


class Encoding:
    """What the tokenizers library gives for `[CLS] question [SEP] context [SEP]`."""

    def __init__(self, question: int, context: int, cls: list[int]) -> None:
        self.ids = [*cls, *[5] * question, 3, *[6] * context, 3]
        ends = [None] * len(cls)
        self.sequence_ids = [*ends, *[0] * question, None, *[1] * context, None]
        self.offsets = [(2 * k, 2 * k + 1) for k in range(len(self.ids))]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cls", [[2], [2, 2], []], ids=str)
def test_scores(seed, cls):
    rng = np.random.default_rng(seed)
    encoding, longest = Encoding(4, 30, cls), int(rng.integers(1, 20))
    logits = rng.normal(scale=3, size=(len(encoding.ids), 2))
    logits[0] += rng.normal(scale=6)  # from no thought of "no answer" to nothing but that
    mask = np.array([part != 1 for part in encoding.sequence_ids])
    mask &= np.array(encoding.ids) != 2
    start, end = (column[None] for column in logits.T)
    starts, ends, scores, none = select_starts_ends(
        start,
        end,
        mask.astype(int)[None],
        np.ones_like(mask, int)[None],
        top_k=1,
        handle_impossible_answer=True,
        max_answer_len=longest,
    )
    ours, nothing = _answers("x" * 99, encoding, logits, 2, 1, longest)
    best = max(ours, key=lambda answer: answer.score)
    assert best.score == pytest.approx(scores[0], rel=1e-5)
    assert (best.start, best.end) == (2 * starts[0], 2 * ends[0] + 1)
    assert nothing == (pytest.approx(none, rel=1e-4) if cls else None)
