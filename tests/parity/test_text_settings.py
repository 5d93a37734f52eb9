"""Token ids beside transformers' own, for files and settings drawn at random."""

import itertools
import json
from pathlib import Path

from text_models import transformers
from tokenizer_folders import ROWS, TEXTS, draw

from zoo.errors import ConfigError, InputError
from zoo.preprocessing.text import TextPreprocessor
from zoo.registry.repo_config import card_from_config
from zoo.registry.tokenizer_config import tokenizer_files

PAIRS = list(itertools.pairwise(TEXTS))


def ours(folder: Path) -> TextPreprocessor:
    def file(name: str) -> str | None:
        path = folder / name
        return path.read_bytes().decode() if path.is_file() else None

    config = json.loads((folder / "config.json").read_text())
    return TextPreprocessor(card_from_config(config, origin="x", file=file).preprocessing)


def assert_same(found: TextPreprocessor, theirs, where: str) -> None:
    """The same tokens for texts and pairs of them, whole, cut and filled up, and the same texts
    of them."""
    spec = found.spec
    assert spec.max_length == min(theirs.model_max_length, spec.max_length), where
    for name in ("padding_side", "truncation_side"):
        assert getattr(spec, name) == getattr(theirs, name), (where, name)
    types = "token_type_ids" in theirs.model_input_names and "token_type_ids" in spec.inputs
    assert ("token_type_ids" in spec.inputs) == types, where
    options = {"return_offsets_mapping": True, "return_token_type_ids": True}
    for texts, length in itertools.product((TEXTS, PAIRS), (None, 11)):
        encodings = found.encode(texts, max_length=length)
        firsts, seconds = (texts, None) if texts is TEXTS else map(list, zip(*texts, strict=True))
        cut = min(length or spec.max_length, spec.max_length)
        expected = theirs(firsts, seconds, truncation=True, max_length=cut, **options)
        assert [e.ids for e in encodings] == expected["input_ids"], (where, length)
        assert [e.type_ids for e in encodings] == expected["token_type_ids"], (where, length)
        assert [e.offsets for e in encodings] == expected["offset_mapping"], (where, length)
        if theirs.pad_token is not None and texts is PAIRS:
            arrays = found.batch(encodings)
            keys = ("input_ids", "token_type_ids")
            padded = theirs.pad({k: expected[k] for k in keys}, return_attention_mask=True)
            for name in spec.inputs:
                assert arrays[name].tolist() == padded[name], (where, name)
        for encoding, special in itertools.product(encodings, (True, False)):
            text = theirs.decode(encoding.ids, skip_special_tokens=not special)
            assert found.decode(encoding.ids, special=special) == text, where


def compare(seed: int, folder: Path) -> str:
    """What became of a folder drawn from a seed: the same, or refused by one of the two."""
    draw(seed, folder)
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        theirs(TEXTS), theirs(PAIRS[0])
    except BaseException as error:
        theirs = error
    try:
        found = ours(folder)
        found.encode(TEXTS)
    except (ConfigError, InputError) as error:
        if isinstance(theirs, BaseException):
            return "no tokenizer"
        return f"refused: {error}"
    if isinstance(theirs, BaseException):
        return f"ours alone: {type(theirs).__name__} {theirs}"[:200]
    assert_same(found, theirs, f"seed {seed}")
    again = folder / "again"
    again.mkdir()
    config = {"model_type": json.loads((folder / "config.json").read_text())["model_type"]}
    for name, text in tokenizer_files(found.spec).items():
        (again / name).write_text(text, encoding="utf-8")
    (again / "config.json").write_text(json.dumps(config | {"vocab_size": ROWS}))
    assert_same(found, transformers.AutoTokenizer.from_pretrained(again), f"seed {seed}, saved")
    assert ours(again).spec.tokenizer == found.spec.tokenizer, f"seed {seed}"
    return "the same"
