"""Folders of tokenizer files, drawn at random: vocabularies, classes, settings, side files."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

from text_models import KINDS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

ROWS = 1000  # of the table of tokens
TEXTS = [
    "",
    " ",
    "Hello, World! the cat SAT on a mat.",
    "  two  spaces,\ttabs\nand\r\nlines ",
    "naïve café, ÅNGSTRÖM, İstanbul, straße",
    "e\u0301 is e\u0301, and a\u0300\u0301\u0302 stacks",
    "emoji 🎉 👩‍👩‍👧‍👦 🇫🇷",
    "日本語のテキスト 中文字符 한국어",
    "control \x00 \x07 \x7f \u200b \ufeff \u00ad no\u00a0break \u2028 line",
    "[MASK] <mask> [CLS] </s> <|endoftext|> <s> [NEW] inside[MASK]words<mask>",
    "the ver cat,ver QED <ent> x <ent>y it's n't do n't a . b ? ' quoted '",
    "\ufb01 ligature \u2460 \uff12\uff13 \u2167",
]
NEW = ["[NEW]", "ver", "<ent>", "QED", "cat", "the", "<s>", "[PAD]", "<unk>"]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
CLASSES = [
    *("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MPNetTokenizer"),
    *("RobertaTokenizer", "GPT2Tokenizer", "XLMRobertaTokenizer", "CamembertTokenizer"),
    *("PreTrainedTokenizer", "LongformerTokenizer", "BertJapaneseTokenizer", "T5Tokenizer"),
]
NAMES = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]


@functools.cache
def word_pieces() -> tuple[str, ...]:
    """Tokens of a WordPiece vocabulary that has all special ones."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=BERT + ROBERTA, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, *map(str.lower, TEXTS)], trainer)
    return tuple(sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get))


@functools.cache
def byte_pairs() -> str:
    """A `tokenizer.json` of byte pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=ROBERTA + BERT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer.to_str()


@functools.cache
def unigrams() -> str:
    """A `tokenizer.json` of a Unigram model."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=ROBERTA, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    return tokenizer.to_str()


def whole(model: str) -> dict[str, Any]:
    """A `tokenizer.json` as data."""
    if model == "BPE":
        return json.loads(byte_pairs())
    if model == "Unigram":
        return json.loads(unigrams())
    tokenizer = Tokenizer(
        models.WordPiece({one: k for k, one in enumerate(word_pieces())}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(BERT)
    return json.loads(tokenizer.to_str())


def draw(seed: int, folder: Path) -> tuple[str, dict[str, Any]]:
    """Write a folder. Returns its model type and the content of its `config.json`."""
    rng = random.Random(seed)
    model_type = rng.choice(list(KINDS))
    model = rng.choice(["WordPiece", "BPE", "Unigram"])
    kind = rng.choice(CLASSES) + rng.choice(["", "", "Fast"]) if rng.random() < 0.7 else None
    if rng.random() < 0.7:  # mostly one that the class can read
        words = {"bert": 0, "distilbert": 0, "electra": 0, "mpnet": 0, "roberta": 1, "gpt2": 1}
        model = ("WordPiece", "BPE", "Unigram")[words.get(model_type, 2)]
        for name, index in (("Bert", 0), ("Elec", 0), ("MPNet", 0), ("Distil", 0), ("GPT2", 1)):
            model = ("WordPiece", "BPE")[index] if kind and kind.startswith(name) else model
        for name, index in (("Roberta", 0), ("Longformer", 0), ("XLM", 1), ("Camembert", 1)):
            model = ("BPE", "Unigram")[index] if kind and kind.startswith(name) else model
    config: dict[str, Any] = {"model_type": model_type, "vocab_size": ROWS}
    settings = _settings(rng)
    if kind is not None:
        (config if rng.random() < 0.2 else settings)["tokenizer_class"] = kind
    files: dict[str, Any] = {"config.json": config}
    if settings or rng.random() < 0.9:
        files["tokenizer_config.json"] = settings
    if rng.random() < 0.3:
        files["special_tokens_map.json"] = _special_map(rng)
    if rng.random() < 0.3:
        ids = rng.sample(range(200, 300), 5)
        files["added_tokens.json"] = dict(zip(rng.sample(NEW, rng.randrange(5)), ids, strict=False))
    if model == "Unigram" or rng.random() < 0.6:
        files["tokenizer.json"] = _whole(rng, model)
        # What two files list under two ids, the library holds twice until it is saved.
        listed = {one["content"] for one in files["tokenizer.json"]["added_tokens"]}
        added = files.get("added_tokens.json", {})
        files["added_tokens.json"] = {k: v for k, v in added.items() if k not in listed}
    elif model == "WordPiece":
        (folder / "vocab.txt").write_text("\n".join(word_pieces()) + "\n", encoding="utf-8")
    else:
        data = whole("BPE")["model"]
        files["vocab.json"] = data["vocab"]
        lines = ["#version: 0.2", *(" ".join(pair) for pair in data["merges"])]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data), encoding="utf-8")
    return model_type, config


def _whole(rng: random.Random, model: str) -> dict[str, Any]:
    data = whole(model)
    if rng.random() < 0.2:
        data["post_processor"] = None
    if rng.random() < 0.2:
        data["normalizer"] = {"type": "Lowercase"}
    if rng.random() < 0.2:
        data["padding"] = {
            "strategy": "BatchLongest",
            "direction": rng.choice(["Left", "Right"]),
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": rng.choice(["[PAD]", "<pad>"]),
        }
    if rng.random() < 0.2:
        data["truncation"] = {
            "direction": rng.choice(["Left", "Right"]),
            "max_length": 9,
            "strategy": "LongestFirst",
            "stride": 0,
        }
    if rng.random() < 0.3:
        size = len(data["model"]["vocab"])
        for k, content in enumerate(rng.sample(["[NEW]", "ver", "<ent>"], rng.randrange(1, 3))):
            data["added_tokens"].append({"id": size + k, **_added(rng, content)})
    return data


def _added(rng: random.Random, content: str) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"content": content, **{name: rng.random() < 0.4 for name in flags}}


def _token(rng: random.Random, *, typed: bool = True) -> Any:
    content = rng.choice(BERT + ROBERTA + NEW)
    if rng.random() < 0.6:
        return content
    return ({"__type": "AddedToken"} if typed else {}) | _added(rng, content)


def _special_map(rng: random.Random) -> dict[str, Any]:
    named: dict[str, Any] = {
        name: _token(rng, typed=False) for name in rng.sample(NAMES, rng.randrange(4))
    }
    if rng.random() < 0.3:
        named["additional_special_tokens"] = rng.sample(NEW, 2)
    if rng.random() < 0.2:
        named["extra_special_tokens"] = rng.sample(NEW, 2)
    if rng.random() < 0.1:
        named["image_token"] = _token(rng, typed=False)
    return named


def _settings(rng: random.Random) -> dict[str, Any]:
    names = ["input_ids", "token_type_ids", "attention_mask"]
    choices: dict[str, list[Any]] = {
        "do_lower_case": [True, False],
        "strip_accents": [True, False, None],
        "tokenize_chinese_chars": [True, False],
        "add_prefix_space": [True, False],
        "trim_offsets": [True, False],
        "padding_side": ["left", "right"],
        "truncation_side": ["left", "right"],
        "model_max_length": [20, 1e30, None],
        "max_len": [16],
        "model_input_names": [names, names[:2], [names[0], names[2]]],
        "clean_up_tokenization_spaces": [True, False],
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": [True],
        "split_special_tokens": [True, False],
        "add_bos_token": [True, False],
        "add_eos_token": [True, False],
        "additional_special_tokens": [
            ["[NEW]", "ver"],
            [],
            [{"__type": "AddedToken"} | _added(rng, "<ent>")],
        ],
        "extra_special_tokens": [["<ent>"], [], {"image_token": "[IMG]"}, {"pad_token": "<pad>"}],
        "image_token": ["<ent>", {"__type": "AddedToken"} | _added(rng, "[IMG]")],
        "errors": ["ignore"],
        "never_split": [["cat"]],
        "do_basic_tokenize": [False],
        "name_or_path": ["x/y"],
        "special_tokens_map_file": ["nowhere"],
        "language": ["fr"],
    }
    settings = {k: rng.choice(v) for k, v in choices.items() if rng.random() < 0.15}
    settings |= {name: _token(rng) for name in NAMES if rng.random() < 0.1}
    settings |= {name: None for name in NAMES if rng.random() < 0.02}
    if rng.random() < 0.2:
        listed = rng.sample(BERT + ROBERTA + NEW, rng.randrange(5))
        ids = rng.sample(range(20), len(listed))
        settings["added_tokens_decoder"] = {
            str(k): _added(rng, one) for k, one in zip(ids, listed, strict=True)
        }
    return settings
