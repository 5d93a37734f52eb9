"""Tokenizer files of a repo, from their bytes to the ids of a text."""

import dataclasses
import itertools
import json
import lzma
import pickle
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from synthetic_texts import WORDS, bert, gpt2

import zoo
from zoo.errors import ConfigError, InputError, ZooError
from zoo.preprocessing.text import TextPreprocessor
from zoo.preprocessing.text_spec import TextSpec
from zoo.preprocessing.tokenizers import read
from zoo.registry import tokenizer_files, tokenizer_settings
from zoo.registry.repo_config import card_from_config, text_files

GOLDEN = Path(__file__).parent / "goldens" / "tokenizers.json.xz"
STORED = json.loads(lzma.decompress(GOLDEN.read_bytes()))
TEXTS, CASES = STORED["texts"], STORED["cases"]
PAIRS = list(itertools.pairwise(TEXTS))
VOCAB = "\n".join(WORDS) + "\n"
# Settings that say nothing of ids; each is in public repos.
IDLE = {"name_or_path": "a/b", "never_split": ["cat"], "do_basic_tokenize": True, "language": "ja"}


def spec_of(files: Mapping[str, str | dict], **config: Any) -> TextSpec:
    """What texts go through, by the content of files."""
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in files.items()}
    config = {"model_type": "bert", "vocab_size": 40} | config
    return card_from_config(config, origin="org/name", file=texts.get).preprocessing


def ids(spec: TextSpec, text: str) -> list[int]:
    return TextPreprocessor(spec).encode([text])[0].ids


def settings(**stated: Any) -> dict[str, str]:
    return {"vocab.txt": VOCAB, "tokenizer_config.json": json.dumps(stated)}


# ---------------------------------------------------------------- as transformers


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_stored_ids_of_transformers(case):
    config = json.loads(case["files"]["config.json"])
    spec = spec_of(case["files"], **config)
    again = spec_of(text_files(spec, {"head": "base"}), **config | {"tokenizer_class": None})
    assert again.tokenizer == spec.tokenizer
    for one in (spec, again):
        ours = TextPreprocessor(dataclasses.replace(one, max_length=None))
        found = [encoding.ids for encoding in ours.encode(TEXTS)]
        assert found == case["ids"]
        assert [ours.decode(row) for row in found] == case["texts"]
        pairs = ours.encode(PAIRS, max_length=11)
        assert [pair.ids for pair in pairs] == case["pairs"]
        if "token_type_ids" in one.inputs:
            assert [pair.type_ids for pair in pairs] == case["types"]
        assert case["pad"] in (None, one.padding_idx)
        assert [one.padding_side, one.truncation_side] == case["sides"]


def test_settings_without_effect():
    plain = ids(spec_of({"vocab.txt": VOCAB}), "the cat")
    assert ids(spec_of(settings(**IDLE)), "the cat") == plain


def test_types_of_tokens_that_a_tokenizer_does_not_give():
    spec = spec_of(settings(model_input_names=["input_ids", "attention_mask"]))
    assert spec.inputs == ("input_ids", "attention_mask")
    assert spec_of(settings()).inputs == ("input_ids", "attention_mask", "token_type_ids")
    # the mask hides what a text is filled up with, and so is always there
    assert "attention_mask" in spec_of(settings(model_input_names=["input_ids"])).inputs


def test_special_tokens_read_as_text():
    whole, apart = (
        ids(spec_of(settings(split_special_tokens=split)), "[MASK]") for split in (False, True)
    )
    assert whole == [2, 4, 3]
    assert 4 not in apart


def test_a_carriage_return_in_a_vocabulary(tmp_path):
    folder = bert(tmp_path)
    lines = [*WORDS[:20], "x\ry", *WORDS[20:]]  # no end of a line
    (folder / "vocab.txt").write_bytes("\r\n".join(lines).encode())
    tokenizer = zoo.load(folder).preprocess.tokenizer
    assert tokenizer.token_to_id("x\ry") == 20
    assert tokenizer.token_to_id(WORDS[-1]) == len(WORDS)


# ---------------------------------------------------------------- what zoo does not have

JAPANESE = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
NOT_HERE = {
    "of transformers": (settings(**JAPANESE), "is a BertJapaneseTokenizer, which zoo does not"),
    "fast": (settings(tokenizer_class="T5TokenizerFast"), "is a T5TokenizerFast"),
    "of nobody": (settings(tokenizer_class="BretTokenizer"), "Did you mean 'BertTokenizer'"),
    "code": (settings(auto_map={"AutoTokenizer": ["tok.Mine", None]}), "tok.Mine"),
    "old code": (settings(auto_map=["tok.Mine", None]), "zoo runs no code of a repo"),
    "sentencepiece": (
        {
            "sentencepiece.bpe.model": "x",
            "tokenizer_config.json": '{"tokenizer_class": "XLMRobertaTokenizer"}',
        },
        "only sentencepiece.bpe.model, and for the XLMRobertaTokenizer zoo reads tokenizer.json",
    ),
    "before all others": ({"tokenizer.model": "x", "vocab.txt": VOCAB}, "only tokenizer.model"),
    "other files": (settings(tokenizer_class="GPT2Tokenizer"), "vocab.json and merges.txt"),
    "versions": (settings(fast_tokenizer_files=["tokenizer.4.json"]), "for other versions"),
    "no file": (settings(tokenizer_class="PreTrainedTokenizerFast"), "only vocab.txt"),
}


@pytest.mark.parametrize(("files", "expected"), NOT_HERE.values(), ids=NOT_HERE)
def test_tokenizers_that_zoo_does_not_have(files, expected):
    spec = spec_of(files)
    assert spec.tokenizer is None
    with pytest.raises(InputError, match="org/name: ") as raised:
        ids(spec, "the cat")
    assert expected in str(raised.value)
    assert any(expected in value for _, value in spec.facts())


def test_the_class_may_stand_in_the_config():
    named = spec_of({"vocab.txt": VOCAB}, tokenizer_class="BertJapaneseTokenizer")
    assert "is a BertJapaneseTokenizer" in str(named.no_tokenizer)
    assert spec_of({"vocab.txt": VOCAB}, tokenizer_class="BertTokenizerFast").tokenizer


def test_a_model_without_its_tokenizer_takes_ids(tmp_path):
    folder = bert(tmp_path / "first")
    (folder / "tokenizer_config.json").write_text(json.dumps(JAPANESE))
    model = zoo.load(folder)
    assert model(np.ones((1, 4), int))["last_hidden_state"].shape == (1, 4, 24)
    zoo.save(model, tmp_path / "again")
    for one in (model, zoo.load(tmp_path / "again")):
        with pytest.raises(InputError, match="BertJapaneseTokenizer"):
            one.embed("the cat")


# ---------------------------------------------------------------- ids and the table


@pytest.mark.parametrize("highest", [40, 2**31, 2**40])
@pytest.mark.parametrize("file", ["vocab.json", "tokenizer.json"])
def test_ids_beyond_the_table_are_found_before_a_tokenizer_is_made(file, highest, monkeypatch):
    def never(*args: Any, **options: Any) -> None:
        raise AssertionError("the library would take memory for each id up to the highest")

    for name in ("byte_pairs", "read"):
        monkeypatch.setattr(tokenizer_files.tokenizers, name, never)
    vocab = {"<|endoftext|>": 0, "a": highest}
    files: dict[str, Any] = {"vocab.json": vocab, "merges.txt": "#version: 0.2\n"}
    if file == "tokenizer.json":
        files = {file: {"model": {"type": "BPE", "vocab": vocab, "merges": []}}}
    for kind in ("GPT2Tokenizer", "PreTrainedTokenizerFast"):
        if file == "tokenizer.json" or kind == "GPT2Tokenizer":
            with pytest.raises(ConfigError, match=rf"id {highest}, but the network's table has 40"):
                spec_of(files, model_type="gpt2", tokenizer_class=kind)


@pytest.mark.parametrize("wrong", [-1, 0.0, 1.5, "1", None, True])
def test_ids_that_are_none(wrong):
    files = {"vocab.json": {"<|endoftext|>": 0, "a": wrong}, "merges.txt": ""}
    with pytest.raises(ConfigError, match=r"vocab.json has the id .*, which is none"):
        spec_of(files, model_type="gpt2")


def test_tokens_that_were_never_added_to_the_model(tmp_path):
    folder = bert(tmp_path, vocab_size=len(WORDS))
    added = {"<new>": 2**31, "<newer>": 2**32}  # ids that no one is given
    (folder / "added_tokens.json").write_text(json.dumps(added))
    stated = {"pad_token": "<new>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    model = zoo.load(folder)
    vectors = model.embed(["the cat", "a dog sat on the mat"])  # as the mask hides what fills up
    assert np.isfinite(vectors).all()
    expected = rf"'<new>' of id {len(WORDS)}, but the model's table has {len(WORDS)} tokens"
    with pytest.raises(InputError, match=expected):
        model.embed("the <new> cat")
    with pytest.raises(ConfigError, match=r"puts <new> around each text, which has the id"):
        spec_of(settings(cls_token="<new>"), vocab_size=len(WORDS))


# ---------------------------------------------------------------- files that are broken


def whole(**parts: Any) -> dict[str, Any]:
    """A generic `tokenizer.json` with other parts."""
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    model |= {"vocab": {word: k for k, word in enumerate(WORDS)}, "max_input_chars_per_word": 9}
    usual = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return usual | {"version": "1.0", "added_tokens": [], "model": model} | parts


PANICS = {
    "charsmap": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}},
    "no charsmap": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
    "prefix": {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2}, "merges": [["a", "b"]]}
        | {"continuing_subword_prefix": "é"}
    },
    "length": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "template": {
        "post_processor": {"type": "TemplateProcessing", "special_tokens": {}}
        | {"single": [{"SpecialToken": {"id": "X", "type_id": 0}}]}
        | {"pair": [{"Sequence": {"id": "A", "type_id": 0}}]}
    },
}


@pytest.mark.parametrize("parts", PANICS.values(), ids=PANICS)
def test_panics_of_the_library_are_errors(parts):
    stated = {"tokenizer_class": "PreTrainedTokenizerFast"}
    files = {"tokenizer.json": whole(**parts), "tokenizer_config.json": stated}
    with pytest.raises(ZooError, match="the tokenizers library says PanicException"):
        ids(spec_of(files), "a b c")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (settings(vocab={"a": 0}), "sets vocab, which stands for a part of the tokenizer's own"),
        (settings(init_inputs=["x"]), "sets init_inputs"),
        (settings(model_max_length="512"), "model_max_length is '512'"),
        (settings(model_max_length=0), "model_max_length is 0"),
        (settings(model_input_names="input_ids"), "model_input_names is 'input_ids'"),
        (settings(padding_side="top"), "padding_side"),
        (settings(pad_token={}), "a token is {}"),
        (settings(cls_token=None), "cls_token is null, but the BertTokenizer puts it"),
        (settings(do_lower_case="yes"), "no BertTokenizer can be made of vocab.txt"),
        (settings(added_tokens_decoder={"x": "y"}), "no BertTokenizer can be made of vocab.txt"),
        ({"tokenizer.json": "[" * 100_000}, "too deep"),
        ({"tokenizer.json": "{"}, "tokenizer.json is not valid JSON"),
        ({"tokenizer.json": "3"}, "should hold an object"),
        ({"tokenizer.json": "{}"}, "its model has no vocabulary"),
        ({"vocab.txt": VOCAB, "added_tokens.json": "[]"}, "added_tokens.json should hold"),
        ({"vocab.txt": VOCAB, "special_tokens_map.json": "1"}, "special_tokens_map.json should"),
    ],
)
def test_files_that_are_not_what_they_should_be(files, expected):
    with pytest.raises(ConfigError) as raised:
        spec_of(files)
    assert expected in str(raised.value)
    assert str(raised.value).startswith("org/name") or "side" in expected


def test_files_too_large(monkeypatch):
    monkeypatch.setattr(tokenizer_settings, "_MOST", 1000)
    with pytest.raises(ConfigError, match=r"vocab.txt has 1\d+ characters; .* at most 1000"):
        spec_of({"vocab.txt": "[PAD]\n" * 200})


JUNK = (None, True, -1, 3, 2**31, 2**64, 1e300, "", "\ud800", [], [[]], {}, {"a": 1}, [None])


def broken(rng: random.Random, text: str) -> str:
    """A file with some of its characters, or one value of its JSON, changed."""
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if data and rng.random() < 0.8:
        place, key = data, rng.choice(list(data))
        while rng.random() < 0.7 and isinstance(place[key], dict | list) and place[key]:
            place = place[key]
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place[key] = rng.choice(JUNK)
        return json.dumps(data)
    raw = bytearray(text.encode())
    for _ in range(rng.choice((1, 3, 30)) if raw else 0):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    return raw.decode("utf-8", "replace")


@pytest.mark.filterwarnings("ignore::zoo.preprocessing.text.TruncationWarning")
def test_any_content_ends_in_a_tokenizer_or_an_error_of_ours():
    results = []
    for seed in range(300):
        rng = random.Random(seed)
        files = dict(rng.choice(CASES)["files"])
        config = json.loads(files.pop("config.json"))
        name = rng.choice(list(files))
        files[name] = broken(rng, files[name])
        try:
            found = TextPreprocessor(spec_of(files, **config))
            arrays = found(TEXTS)
            found.decode(arrays["input_ids"][0])
            results.append(True)
        except ZooError:
            results.append(False)
    assert 30 < sum(results) < 270  # else one of the two ways was hardly taken


# ---------------------------------------------------------------- there and back


def test_a_model_keeps_its_tokenizer(tmp_path):
    folder = bert(tmp_path / "first")
    stated = {"do_lower_case": False, "extra_special_tokens": ["<new>"], "padding_side": "left"}
    stated |= {"clean_up_tokenization_spaces": True, "split_special_tokens": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    model = zoo.load(folder)
    texts = ["The cat<new> sat", ("a dog", "Ada [MASK] lived in london . n't")]
    expected = model.preprocess(texts)
    zoo.save(model, tmp_path / "saved")
    model.save(tmp_path / "model.keras")
    for again in (
        zoo.load(tmp_path / "saved"),
        keras.saving.load_model(tmp_path / "model.keras"),
        pickle.loads(pickle.dumps(model)),
    ):
        found = again.preprocess(texts)
        assert {k: v.tolist() for k, v in found.items()} == {
            k: v.tolist() for k, v in expected.items()
        }
        decoded = [one.preprocess.decode(expected["input_ids"][1]) for one in (again, model)]
        assert decoded[0] == decoded[1]


def test_byte_pairs_keep_what_is_put_before_a_text(tmp_path):
    folder = gpt2(tmp_path / "first")
    (folder / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    model = zoo.load(folder)
    first = model.preprocess("a cat")["input_ids"][0].tolist()
    assert first[0] == 256
    zoo.save(model, tmp_path / "again")
    assert zoo.load(tmp_path / "again").preprocess("a cat")["input_ids"][0].tolist() == first
    assert read((tmp_path / "again" / "tokenizer.json").read_text()).encode("a cat").ids == first
