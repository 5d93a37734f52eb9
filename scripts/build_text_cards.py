"""Write the registry's data files of text models.

    python scripts/build_text_cards.py

`zoo/registry/cards/bert.json` and `gpt2.json`: transformers' model types with the defaults of its
config classes, and cards of well-known checkpoints on the public hub. What a row of `ROWS` says of
a checkpoint is what its repo's own `config.json` says; the numbers of parameters are counted. At
load, the repo's files win over the card: a text model cannot be loaded without them, since they
hold its tokenizer.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_cards import render, write

from zoo.registry import transformers_config
from zoo.registry.card import WeightsFile, to_data
from zoo.registry.registry import CARDS
from zoo.registry.tokenizer_config import text_spec
from zoo.registry.transformers_text import TEXT, task_of
from zoo.registry.transformers_types import VERSION

MODULES = {"bert": "zoo.architectures.bert", "gpt2": "zoo.architectures.gpt2"}


@dataclass(frozen=True)
class Row:
    """A checkpoint on the public hub.

    Attributes:
        name: of the card.
        repo: `org/name`.
        license: as the repo states it; None where it states none.
        type: transformers' model type.
        keys: of its `config.json`, where they are not the type's defaults.
        model: the class in `architectures`.
        pooling: how sentence-transformers makes one vector of a text; None: the repo does not say.
        normalize: whether this vector has length 1.
        max_length: tokens of the longest text, where it is less than the network's.
    """

    name: str
    repo: str
    license: str | None
    type: str
    model: str
    keys: dict[str, Any] = dataclasses.field(default_factory=dict)
    pooling: str | None = None
    normalize: bool = False
    max_length: int | None = None


def sized(width: int, layers: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        **more,
    }


def labelled(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {n: k for k, n in enumerate(names)}}


LARGE = sized(1024, 24, 16)
MINI6, MINI12 = sized(384, 6, 12), sized(384, 12, 12)
ROBERTA = {"max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
XLM = ROBERTA | {"vocab_size": 250002}
MPNET = {"max_position_embeddings": 514, "layer_norm_eps": 1e-5}
CASED, MULTILINGUAL = {"vocab_size": 28996}, {"vocab_size": 119547}
PERSONS = ("O", "B-MISC", "I-MISC", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def plain(org: str, license: str, kind: str, model: str, **names: dict[str, Any]) -> list[Row]:
    """Checkpoints whose cards have the names of their repos, with `_` for `-`."""
    rows = ((name.replace("_", "-"), keys) for name, keys in names.items())
    return [Row(name, f"{org}/{name}", license, kind, model, keys) for name, keys in rows]


def sentence(
    name: str,
    repo: str,
    license: str | None,
    kind: str,
    keys: dict[str, Any],
    *,
    pooling: str = "mean",
    normalize: bool = True,
    max_length: int | None = None,
) -> Row:
    """A checkpoint that sentence-transformers reads."""
    model = next(iter(TEXT[kind].heads))
    return Row(name, repo, license, kind, model, keys, pooling, normalize, max_length)


# Repos that have no safetensors on `main`, and the pull request of the hub's converter that has
# them: https://huggingface.co/google/electra-base-discriminator/tree/refs%2Fpr%2F4 and its like.
CONVERTED = {
    "google/electra-base-discriminator": "refs/pr/4",
    "google/electra-large-discriminator": "refs/pr/2",
}

ROWS = [
    *plain(
        "google-bert",
        "apache-2.0",
        "bert",
        "BertForMaskedLM",
        bert_base_uncased={},
        bert_base_cased=CASED,
        bert_large_uncased=LARGE,
        bert_large_cased=LARGE | CASED,
        bert_base_multilingual_cased=MULTILINGUAL,
        bert_base_multilingual_uncased={"vocab_size": 105879},
        bert_base_chinese={"vocab_size": 21128},
        bert_large_uncased_whole_word_masking=LARGE,
        bert_large_cased_whole_word_masking=LARGE | CASED,
    ),
    Row(
        "bert-large-uncased-whole-word-masking-finetuned-squad",
        "google-bert/bert-large-uncased-whole-word-masking-finetuned-squad",
        "apache-2.0",
        "bert",
        "BertForQuestionAnswering",
        LARGE,
    ),
    *plain(
        "FacebookAI",
        "mit",
        "roberta",
        "RobertaForMaskedLM",
        roberta_base=ROBERTA,
        roberta_large=LARGE | ROBERTA,
    ),
    Row(
        "roberta-large-mnli",
        "FacebookAI/roberta-large-mnli",
        "mit",
        "roberta",
        "RobertaForSequenceClassification",
        LARGE | ROBERTA | labelled("CONTRADICTION", "NEUTRAL", "ENTAILMENT"),
    ),
    Row(
        "distilroberta-base",
        "distilbert/distilroberta-base",
        "apache-2.0",
        "roberta",
        "RobertaForMaskedLM",
        ROBERTA | {"num_hidden_layers": 6},
    ),
    *plain(
        "FacebookAI",
        "mit",
        "xlm-roberta",
        "XLMRobertaForMaskedLM",
        xlm_roberta_base=XLM,
        xlm_roberta_large=LARGE | XLM,
    ),
    *plain(
        "distilbert",
        "apache-2.0",
        "distilbert",
        "DistilBertForMaskedLM",
        distilbert_base_uncased={},
        distilbert_base_cased=CASED,
        distilbert_base_multilingual_cased=MULTILINGUAL,
    ),
    Row(
        "distilbert-base-uncased-finetuned-sst-2-english",
        "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
        "apache-2.0",
        "distilbert",
        "DistilBertForSequenceClassification",
        labelled("NEGATIVE", "POSITIVE"),
    ),
    *plain(
        "distilbert",
        "apache-2.0",
        "distilbert",
        "DistilBertForQuestionAnswering",
        distilbert_base_uncased_distilled_squad={},
        distilbert_base_cased_distilled_squad=CASED,
    ),
    Row("mpnet-base", "microsoft/mpnet-base", None, "mpnet", "MPNetForMaskedLM", MPNET),
    *plain(
        "google",
        "apache-2.0",
        "electra",
        "ElectraForPreTraining",
        electra_small_discriminator={},
        electra_base_discriminator=sized(768, 12, 12, embedding_size=768),
        electra_large_discriminator=LARGE | {"embedding_size": 1024},
    ),
    *plain(
        "google",
        "apache-2.0",
        "electra",
        "ElectraForMaskedLM",
        electra_small_generator={},
        electra_base_generator=sized(256, 12, 4, embedding_size=768),
    ),
    Row(
        "camembert-base",
        "almanach/camembert-base",
        "mit",
        "camembert",
        "CamembertForMaskedLM",
        ROBERTA | {"vocab_size": 32005},
    ),
    *plain(
        "openai-community",
        "mit",
        "gpt2",
        "GPT2LMHeadModel",
        gpt2={},
        gpt2_medium={"n_embd": 1024, "n_layer": 24, "n_head": 16},
        gpt2_large={"n_embd": 1280, "n_layer": 36, "n_head": 20},
        gpt2_xl={"n_embd": 1600, "n_layer": 48, "n_head": 25},
    ),
    Row(
        "distilgpt2",
        "distilbert/distilgpt2",
        "apache-2.0",
        "gpt2",
        "GPT2LMHeadModel",
        {"n_layer": 6},
    ),
    # tasks
    Row(
        "bert-base-ner",
        "dslim/bert-base-NER",
        "mit",
        "bert",
        "BertForTokenClassification",
        CASED | labelled(*PERSONS),
    ),
    Row(
        "bert-large-ner",
        "dslim/bert-large-NER",
        "mit",
        "bert",
        "BertForTokenClassification",
        LARGE | CASED | labelled(*PERSONS),
    ),
    Row(
        "bert-base-multilingual-uncased-sentiment",
        "nlptown/bert-base-multilingual-uncased-sentiment",
        "mit",
        "bert",
        "BertForSequenceClassification",
        {"vocab_size": 105879} | labelled("1 star", *(f"{count} stars" for count in range(2, 6))),
    ),
    Row(
        "roberta-base-squad2",
        "deepset/roberta-base-squad2",
        "cc-by-4.0",
        "roberta",
        "RobertaForQuestionAnswering",
        ROBERTA,
    ),
    Row(
        "tinyroberta-squad2",
        "deepset/tinyroberta-squad2",
        "cc-by-4.0",
        "roberta",
        "RobertaForQuestionAnswering",
        ROBERTA | {"num_hidden_layers": 6},
    ),
    Row(
        "minilm-uncased-squad2",
        "deepset/minilm-uncased-squad2",
        "cc-by-4.0",
        "bert",
        "BertForQuestionAnswering",
        MINI12,
    ),
    *(
        Row(
            f"ms-marco-minilm-l{layers}-v2",
            f"cross-encoder/ms-marco-MiniLM-L{layers}-v2",
            "apache-2.0",
            "bert",
            "BertForSequenceClassification",
            sized(384, layers, 12) | {"id2label": {0: "LABEL_0"}},
        )
        for layers in (2, 4, 6, 12)
    ),
    *(
        Row(
            f"bge-reranker-{size}",
            f"BAAI/bge-reranker-{size}",
            "mit",
            "xlm-roberta",
            "XLMRobertaForSequenceClassification",
            keys | XLM | {"id2label": {0: "LABEL_0"}},
        )
        for size, keys in (("base", {}), ("large", LARGE))
    ),
    # sentences
    *(
        sentence(
            f"all-minilm-l{layers}-v2",
            f"sentence-transformers/all-MiniLM-L{layers}-v2",
            "apache-2.0",
            "bert",
            keys,
            max_length=length,
        )
        for layers, keys, length in ((6, MINI6, 256), (12, MINI12, 128))
    ),
    sentence(
        "all-mpnet-base-v2",
        "sentence-transformers/all-mpnet-base-v2",
        "apache-2.0",
        "mpnet",
        MPNET,
        max_length=384,
    ),
    sentence(
        "all-distilroberta-v1",
        "sentence-transformers/all-distilroberta-v1",
        "apache-2.0",
        "roberta",
        ROBERTA | {"num_hidden_layers": 6},
    ),
    sentence(
        "multi-qa-minilm-l6-cos-v1",
        "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
        None,
        "bert",
        MINI6,
    ),
    sentence(
        "multi-qa-mpnet-base-dot-v1",
        "sentence-transformers/multi-qa-mpnet-base-dot-v1",
        None,
        "mpnet",
        MPNET,
        pooling="cls",
        normalize=False,
    ),
    *(
        sentence(
            f"paraphrase-minilm-l{layers}-v2",
            f"sentence-transformers/paraphrase-MiniLM-L{layers}-v2",
            "apache-2.0",
            "bert",
            sized(384, layers, 12),
            normalize=False,
            max_length=128,
        )
        for layers in (3, 6, 12)
    ),
    sentence(
        "paraphrase-multilingual-minilm-l12-v2",
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        "apache-2.0",
        "bert",
        MINI12 | {"vocab_size": 250037},
        normalize=False,
        max_length=128,
    ),
    sentence(
        "paraphrase-multilingual-mpnet-base-v2",
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
        "apache-2.0",
        "xlm-roberta",
        XLM,
        normalize=False,
        max_length=128,
    ),
    sentence(
        "msmarco-distilbert-base-v4",
        "sentence-transformers/msmarco-distilbert-base-v4",
        "apache-2.0",
        "distilbert",
        {},
        normalize=False,
    ),
    *(
        sentence(
            f"bge-{size}-en-v1.5", f"BAAI/bge-{size}-en-v1.5", "mit", "bert", keys, pooling="cls"
        )
        for size, keys in (("small", MINI12), ("base", {}), ("large", LARGE))
    ),
    *(
        sentence(
            f"bge-{size}-zh-v1.5", f"BAAI/bge-{size}-zh-v1.5", "mit", "bert", keys, pooling="cls"
        )
        for size, keys in (
            ("small", sized(512, 4, 8, vocab_size=21128)),
            ("base", {"vocab_size": 21128}),
            ("large", LARGE | {"vocab_size": 21128}),
        )
    ),
    *(
        sentence(f"e5-{size}-v2", f"intfloat/e5-{size}-v2", "mit", "bert", keys)
        for size, keys in (("small", MINI12), ("base", {}), ("large", LARGE))
    ),
    *(
        sentence(f"multilingual-e5-{size}", f"intfloat/multilingual-e5-{size}", "mit", kind, keys)
        for size, kind, keys in (
            ("small", "bert", MINI12 | {"vocab_size": 250037}),
            ("base", "xlm-roberta", XLM),
            ("large", "xlm-roberta", LARGE | XLM),
        )
    ),
    *(
        sentence(f"gte-{size}", f"thenlper/gte-{size}", "mit", "bert", keys)
        for size, keys in (("small", MINI12), ("base", {}), ("large", LARGE))
    ),
]


def described(kind: str, keys: dict[str, Any], name: str) -> tuple[Any, Any]:
    """What a `config.json` gives, and the spec of its texts."""
    config = {"model_type": kind, **keys}
    found = transformers_config.read(config, where=name)
    spec = text_spec(
        lambda file: None, model_type=kind, fields=found.fields, config=config, origin=name
    )
    return found, spec


def architecture(kind: str) -> dict[str, Any]:
    found, spec = described(kind, {}, kind)
    return {
        "config": to_data(found.fields),
        "task": task_of(found.fields),
        "preprocessing": to_data(spec),
    }


def card(row: Row) -> dict[str, Any]:
    found, spec = described(row.type, {"architectures": [row.model], **row.keys}, row.name)
    fields = found.fields
    if row.pooling is not None:
        modules = (("Normalize",),) if row.normalize else ()
        fields = {**fields, "head": "sentence", "pooling": (row.pooling,), "modules": modules}
    if row.max_length is not None:
        spec = dataclasses.replace(spec, max_length=row.max_length)
    base = architecture(row.type)["config"]
    changed = {k: v for k, v in to_data(fields).items() if base.get(k) != v}
    return {
        "architecture": row.type,
        "config": changed,
        "weights": to_data(WeightsFile(repo=row.repo, pull_request=CONVERTED.get(row.repo))),
        "preprocessing": to_data(spec),
        "task": task_of(fields),
        **({"labels": list(found.labels)} if found.labels else {}),
        **({"license": row.license} if row.license else {}),
        "num_params": count(row.type, fields),
        "origin_url": f"https://huggingface.co/{row.repo}",
    }


def count(kind: str, fields: dict[str, Any]) -> int:
    """The parameters of a network, which is built and gets no values."""
    import keras

    from zoo.layers.building import build_uninitialized
    from zoo.registry.registry import import_family

    family = import_family("gpt2" if kind == "gpt2" else "bert")
    config = family.read_config(fields, origin=kind)

    def build() -> Any:
        graph = family.build(config)
        return keras.Model(graph.inputs, graph.outputs)

    return build_uninitialized(build).count_params()


def data(family: str) -> dict[str, Any]:
    """The content of a family's file."""
    own = [kind for kind in TEXT if (kind == "gpt2") == (family == "gpt2")]
    return {
        "family": family,
        "module": MODULES[family],
        "source": {"library": "transformers", "version": VERSION},
        "architectures": {kind: architecture(kind) for kind in own},
        "cards": {row.name: card(row) for row in ROWS if row.type in own},
    }


def main() -> None:
    for family in MODULES:
        write(CARDS / f"{family}.json", render(data(family)) + "\n")


if __name__ == "__main__":
    main()
