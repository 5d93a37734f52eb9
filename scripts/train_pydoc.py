"""Train `lstm_lm_mini.pydoc`, the language model that ships with zoo, and fill in its card.

    python scripts/train_pydoc.py                # a quarter of an hour on two cores
    python scripts/train_pydoc.py --epochs 1     # a first look

It reads characters: the documentation strings of Python's standard library, of the version that
runs the script. One module in twelve is held out. Its text, cut to a length that the package can
carry, is written beside the weights, so that a test can compute the figures again: bits per
character of the model, and of `xz -9` for the same text.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import lzma
import os
import platform
from collections import Counter
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from texts import documentation_strings

import zoo
from zoo.loading.pulling import BUNDLED
from zoo.preprocessing.spec import SequenceSpec
from zoo.record import LoadReport
from zoo.registry.registry import CARDS
from zoo.weights.disk import sha256_of

NAME = "lstm_lm_mini.pydoc"
TEST = "pydoc held-out"
CARD_FILE = CARDS / "lstm_lm.json"
WEIGHTS = BUNDLED / NAME
HELD_OUT = BUNDLED / "pydoc" / "held_out.txt"
SCRIPT = "scripts/train_pydoc.py"

SEED = 0
ONE_IN = 12  # modules are held out
HELD_OUT_LENGTH = 120_000  # characters
RARE = 40  # characters that come more seldom are left out
STEPS = 128  # characters of a sequence
BATCH = 32
EPOCHS = 4
PEAK_RATE = 4e-3
WARMUP = 300  # batches
WEIGHT_DECAY = 1e-2


# ---------------------------------------------------------------- the texts


def documentation() -> Iterator[tuple[str, str]]:
    """Each module of the standard library, by name, and its documentation strings."""
    for name, pairs in itertools.groupby(documentation_strings(), lambda pair: pair[0]):
        yield name, "\n\n".join(text for _, text in pairs)


def split_texts() -> tuple[str, str, str]:
    """The training text, the held-out text, and the characters of the vocabulary."""
    training: list[str] = []
    held_out: list[str] = []
    for name, text in documentation():
        number = int(hashlib.sha256(name.encode()).hexdigest(), 16)
        (held_out if number % ONE_IN == 0 else training).append(text)
    joined = "\n\n".join(training)
    counts = Counter(joined)
    characters = "".join(sorted(c for c, count in counts.items() if count >= RARE))
    kept = str.maketrans("", "", "".join(set(joined + "".join(held_out)) - set(characters)))
    whole = "\n\n".join(held_out).translate(kept)
    return joined.translate(kept), whole[:HELD_OUT_LENGTH], characters


# ---------------------------------------------------------------- training


def train(text: str, characters: str, epochs: int) -> zoo.Model:
    """A model trained from scratch; each epoch cuts the text into sequences elsewhere."""
    keras.utils.set_random_seed(SEED)
    model = zoo.load(NAME, pretrained=False)
    record = model.record
    spec = SequenceSpec(vocabulary=tuple(characters))
    card = dataclasses.replace(record.card, preprocessing=spec)
    model.attach(dataclasses.replace(record, card=card))
    ids = model.preprocess.encode(text)
    batches = len(ids) // (STEPS * BATCH) - 1

    def sequences() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rng = np.random.default_rng(SEED)
        for _ in range(epochs):
            starts = np.arange(batches * BATCH) * STEPS + rng.integers(STEPS)
            for chosen in rng.permutation(starts).reshape(batches, BATCH):
                rows = ids[chosen[:, None] + np.arange(STEPS + 1)]
                yield rows[:, :-1], rows[:, 1:]

    shape = tf.TensorSpec((BATCH, STEPS), tf.int32)
    data = tf.data.Dataset.from_generator(sequences, output_signature=(shape, shape)).prefetch(2)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=PEAK_RATE,
        warmup_steps=WARMUP,
        decay_steps=epochs * batches - WARMUP,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=WEIGHT_DECAY, global_clipnorm=1.0)
    model.compile(optimizer)
    model.fit(data, epochs=epochs, steps_per_epoch=batches, verbose=2)
    return model


# ---------------------------------------------------------------- what is written


def measure(model: zoo.Model, text: str) -> dict[str, object]:
    """The figures of the card, in bits per character."""
    packed = lzma.compress(text.encode(), preset=9)
    return {
        "bits_per_character": round(model.score(text), 4),
        "xz": round(8 * len(packed) / len(text), 4),
        "characters": len(text),
        "python": platform.python_version(),
        "source": SCRIPT,
    }


def save(model: zoo.Model) -> zoo.Model:
    """Write the model's folder, in half precision, and load what was written."""
    record = dataclasses.replace(
        model.record, report=LoadReport(source=SCRIPT), file_dtype="float16"
    )
    model.attach(record)
    return zoo.load(zoo.save(model, WEIGHTS))


def fill_in_card(model: zoo.Model, characters: str, figures: dict[str, object]) -> None:
    """Put into the card what came out of the training."""
    data = json.loads(CARD_FILE.read_text("utf-8"))
    card = data["cards"][NAME]
    card["weights"]["sha256"] = sha256_of(WEIGHTS / "model.safetensors")
    card["preprocessing"]["vocabulary"] = characters
    card["num_params"] = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    card["published"] = {TEST: figures}
    CARD_FILE.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    text, held_out, characters = split_texts()
    print(f"{len(text):,} characters, {len(characters)} different; {len(held_out):,} held out")
    model = save(train(text, characters, parser.parse_args().epochs))
    figures = measure(model, held_out)
    HELD_OUT.parent.mkdir(exist_ok=True)
    HELD_OUT.write_text(held_out, "utf-8")
    fill_in_card(model, characters, figures)
    print(json.dumps(figures, indent=1))
    print(model.generate("Return the ", max_new_tokens=300, temperature=0.7, seed=0))


if __name__ == "__main__":
    main()
