"""Token ids beside transformers' own, on texts that are awkward."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from synthetic_texts import MINILM
from text_models import KINDS, transformers
from tokenizers import ByteLevelBPETokenizer

import zoo
from zoo.errors import InputError
from zoo.preprocessing.text import TruncationWarning

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces,\ttabs\nand\r\nlines ",
    "naïve café, ÅNGSTRÖM, İstanbul, straße",
    "e\u0301 is e\u0301, and a\u0300\u0301\u0302 stacks",
    "emoji 🎉 👩‍👩‍👧‍👦 🇫🇷 👍🏽",
    "日本語のテキスト 中文字符 한국어",
    "مرحبا بالعالم، كيف حالك؟",
    "שלום עולם עִבְרִית",
    "control \x00 \x01 \x07 \x7f \u200b \ufeff characters",
    "soft\u00adhyphen no\u00a0break \u2028 line",
    "[MASK] <mask> [CLS] </s> <|endoftext|> inside",
    "don't can't I'm we've it's 100% $5.00 a_b http://x.y/z?q=1",
    "unaffable antidisestablishmentarianism",
    "\ufb01 ligature \u2460 \uff12\uff13 \u2167 \u00bd",
    "\U0001f9d1\U0001f3ff\u200d\U0001f680 \U00020000",
    "x" * 300,
    "word " * 700,
]


@pytest.fixture(scope="module")
def merges(tmp_path_factory) -> Path:
    """`vocab.json` and `merges.txt` of byte pairs, trained on the corpus itself."""
    folder = tmp_path_factory.mktemp("bpe")
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXTS * 3, vocab_size=600, special_tokens=special)
    tokenizer.save_model(str(folder))
    return folder


def prepared(kind: str, folder: Path, files, tmp_path, settings=None, **options):
    """Our preprocessing and their tokenizer for the same folder."""
    KINDS[kind].make("Model", **options).save_pretrained(tmp_path)
    for name in files:
        shutil.copy(folder / name, tmp_path / name)
    if settings is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    return zoo.load(tmp_path).preprocess, theirs


def assert_equal(ours, theirs, longest: int) -> None:
    """The same arrays for single texts, and for pairs of them, the longest of which are cut."""
    pairs = list(itertools.pairwise(TEXTS[:-1]))
    first, second = (list(texts) for texts in zip(*pairs, strict=True))
    with pytest.warns(TruncationWarning):
        found = ours(TEXTS), ours(pairs)
    options = {"truncation": True, "max_length": longest, "padding": True}
    expected = theirs(TEXTS, **options), theirs(first, second, **options)
    for arrays, others in zip(found, expected, strict=True):
        for name in arrays:
            # a part that theirs leaves out is the first
            wanted = others[name] if name in others else np.zeros_like(arrays[name]).tolist()
            assert arrays[name].tolist() == wanted, name


WORD_PIECES = {
    "cased": {"do_lower_case": False},
    "accents": {"do_lower_case": True, "strip_accents": False},
    "whole ideographs": {"tokenize_chinese_chars": False},
    "left": {"padding_side": "left", "truncation_side": "left"},
}


@pytest.mark.parametrize("kind", ["bert", "distilbert", "electra"])
def test_tokenizer_json(kind, tmp_path):
    files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    ours, theirs = prepared(kind, MINILM, files, tmp_path, vocab_size=30522)
    assert_equal(ours, theirs, 40)


@pytest.mark.parametrize("settings", WORD_PIECES.values(), ids=WORD_PIECES)
def test_vocab_txt(settings, tmp_path):
    settings = {"tokenizer_class": "BertTokenizer"} | settings
    ours, theirs = prepared("bert", MINILM, ["vocab.txt"], tmp_path, settings, vocab_size=30522)
    assert_equal(ours, theirs, 40)


def test_vocab_txt_of_mpnet(tmp_path):
    lines = (MINILM / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *lines[999:]]), encoding="utf-8")
    ours, theirs = prepared(
        "mpnet",
        tmp_path,
        [],
        tmp_path,
        {"tokenizer_class": "MPNetTokenizer"},
        vocab_size=30522,
    )
    assert_equal(ours, theirs, 38)


@pytest.mark.parametrize("spaced", [False, True])
def test_vocab_json_of_roberta(merges, spaced, tmp_path):
    settings = {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": spaced}
    files = ["vocab.json", "merges.txt"]
    ours, theirs = prepared("roberta", merges, files, tmp_path, settings, vocab_size=600)
    assert_equal(ours, theirs, 38)


def test_vocab_json_of_gpt2(merges, tmp_path):
    files = ["vocab.json", "merges.txt"]
    settings = {"tokenizer_class": "GPT2Tokenizer"}
    ours, theirs = prepared("gpt2", merges, files, tmp_path, settings, vocab_size=600)
    theirs.pad_token = theirs.eos_token
    texts = [text for text in TEXTS if text]
    expected = theirs(texts, truncation=True, max_length=40, padding=True)
    with pytest.warns(TruncationWarning):
        found = ours(texts)
    assert found["attention_mask"].tolist() == expected["attention_mask"]
    kept = found["attention_mask"] > 0
    assert (found["input_ids"] * kept).tolist() == (
        kept * expected.convert_to_tensors("np")["input_ids"]
    ).tolist()
    for text in texts:
        ids = ours.encode([text], truncate=True, max_length=40)[0].ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_lone_surrogates_are_refused(tmp_path):
    files = ("tokenizer.json", "tokenizer_config.json")
    ours, _ = prepared("bert", MINILM, files, tmp_path, vocab_size=30522)
    with pytest.raises(InputError, match=r"Text 1 has half of a surrogate pair.*at place 3"):
        ours(["fine", "bad\ud83d"])


def test_what_we_save_is_read_the_same(tmp_path):
    files = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
    _, theirs = prepared("bert", MINILM, files, tmp_path / "theirs", vocab_size=30522)
    zoo.save(zoo.load(tmp_path / "theirs"), tmp_path / "ours")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert type(again) is type(theirs)
    for text in TEXTS:
        assert again(text)["input_ids"] == theirs(text)["input_ids"]
