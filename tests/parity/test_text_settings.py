"""Token ids beside transformers' own, for files and settings drawn at random."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from text_models import transformers
from tokenizer_folders import ROWS, TEXTS, draw
from tokenizers import Tokenizer
from transformers.models.auto import tokenization_auto

from zoo.errors import ConfigError, InputError
from zoo.preprocessing.text import TextPreprocessor
from zoo.registry.dialects import transformers_dialect, transformers_dialects
from zoo.registry.repo_config import card_from_config
from zoo.registry.tokenizer_classes import CLASSES
from zoo.registry.tokenizer_config import tokenizer_files

pytestmark = pytest.mark.filterwarnings("ignore::zoo.preprocessing.text.TruncationWarning")

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


def reference(folder: Path):
    """transformers' tokenizer of a folder, or the error that it ends with."""
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        theirs(TEXTS), theirs(PAIRS[0])
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic is no Exception
        return error
    return theirs


def agrees_with_itself(theirs) -> bool:
    """Whether a tokenizer gives the same once it is written and read.

    A token that was added twice, or of which two have one lower case, the library holds otherwise
    than it writes it.
    """
    again = Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    again.encode_special_tokens = theirs.split_special_tokens
    for tokenizer in (again, theirs.backend_tokenizer):
        tokenizer.no_padding()
        tokenizer.no_truncation()
    for one, other in zip(
        again.encode_batch(TEXTS), theirs.backend_tokenizer.encode_batch(TEXTS), strict=True
    ):
        for skip in (True, False):
            texts = [t.decode(one.ids, skip_special_tokens=skip) for t in (again, theirs)]
            if one.ids != other.ids or (texts[0] != texts[1] and not _cleans(theirs)):
                return False
    return True


def _cleans(theirs) -> bool:
    return bool(theirs.clean_up_tokenization_spaces)


def compare(seed: int, folder: Path) -> str:
    """What became of a folder drawn from a seed: the same, or refused, and why."""
    draw(seed, folder)
    theirs = reference(folder)
    try:
        found = ours(folder)
        found.encode(TEXTS)
    except (ConfigError, InputError) as error:
        return "no tokenizer" if isinstance(theirs, BaseException) else f"refused: {error}"
    if isinstance(theirs, BaseException):
        return "ours alone"
    if not agrees_with_itself(theirs):
        return "no law"
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


REFUSED = re.compile(
    "(the repo's tokenizer is a (T5|BertJapanese)Tokenizer"
    "|there is no tokenizer.json, only vocab"  # files of another class
    "|_token is null, but the"
    r"|lacks the special token\(s\))"
)


@pytest.mark.parametrize("part", range(4))
def test_settings_and_files_at_random(part, tmp_path):
    results = []
    for seed in range(10_000 + part, 10_240, 4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        results.append(compare(seed, folder))
    counts = Counter(one.partition(":")[0] for one in results)
    assert counts["the same"] >= 36, counts  # of 60; else the test says little
    assert counts["no law"] <= 3, counts
    assert counts["ours alone"] == 0, counts
    refused = [one for one in results if one.startswith("refused") and not REFUSED.search(one)]
    assert not refused


@pytest.mark.parametrize("name", CLASSES)
def test_classes_are_those_of_transformers(name):
    for given in (name, f"{name}Fast"):
        found = tokenization_auto.tokenizer_class_from_name(given)
        generic = found is None or found.__name__ in ("PythonBackend", "TokenizersBackend")
        expected = transformers.TokenizersBackend if generic else found
        ours = CLASSES[name].name.replace("PreTrainedTokenizerFast", "TokenizersBackend")
        named = getattr(expected, "__name__")  # noqa: B009
        assert (ours == named) or issubclass(expected, getattr(transformers, ours))
        if not generic:
            assert set(CLASSES[name].inputs) == set(expected.model_input_names)


@pytest.mark.parametrize("model_type", [k for k, one in transformers_dialects() if one.tokenizer])
def test_the_class_of_a_model_type(model_type):
    expected = tokenization_auto.TOKENIZER_MAPPING_NAMES[model_type]
    assert transformers_dialect(model_type)[1].tokenizer.name == expected
