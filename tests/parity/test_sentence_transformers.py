"""Vectors of texts against sentence-transformers, live: poolings, modules, settings, saves."""

import itertools
import json

import numpy as np
import pytest
from reference import torch
from text_models import KINDS
from transformers import AutoTokenizer

import zoo
from zoo.registry.sentence_config import _ACTIVATIONS, _POOLINGS, TRANSFORMERS

SentenceTransformer = pytest.importorskip("sentence_transformers").SentenceTransformer

pytestmark = pytest.mark.filterwarnings("ignore::zoo.preprocessing.text.TruncationWarning")

OLD = "sentence_transformers.models."
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
WORDS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "dog", "sat", "Hello", "hello"),
    *("cafe", "café", "##s", "query", ":", "."),
)
TEXTS = ["the cat", "Hello dog café", "the dog sat. " * 20, "cats", "."]
SETTINGS = "config_sentence_transformers.json"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a BERT of transformers and its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    KINDS["bert"].make("Model").save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return folder


def written(base, folder, *modules, files=None, pooling=None, new=False):
    """A folder as sentence-transformers has it; a module is a class and its config, or tensors."""
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    kinds = ["Transformer", "Pooling", *(kind for kind, *_ in modules)]
    folders = ["", *(f"{k}_{kind}" for k, kind in enumerate(kinds) if k)]
    types = [NEW.get(kind, OLD + kind) if new else OLD + kind for kind in kinds]
    entries = [
        {"idx": k, "name": str(k), "path": path, "type": kind}
        for k, (path, kind) in enumerate(zip(folders, types, strict=True))
    ]
    texts = {"modules.json": entries, "1_Pooling/config.json": pooling or {"pooling_mode": "mean"}}
    texts["1_Pooling/config.json"].setdefault("embedding_dimension", 24)
    for path, (_, config) in zip(folders[2:], modules, strict=True):
        texts[f"{path}/config.json"] = config
    for name, data in (texts | (files or {})).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(data))
    for path, (kind, config) in zip(folders[2:], modules, strict=True):
        _write_weights(folder / path, kind, config)
    return folder


def _write_weights(folder, kind, config):
    from safetensors.torch import save_file

    torch.manual_seed(1)
    tensors = {}
    if kind == "Dense":
        inputs, outputs = config["in_features"], config["out_features"]
        tensors["linear.weight"] = torch.randn(outputs, inputs)
        if config.get("bias", True):
            tensors["linear.bias"] = torch.randn(outputs)
        if config.get("use_residual") and inputs != outputs:
            tensors["residual.weight"] = torch.randn(outputs, inputs)
    if kind == "LayerNorm":
        size = config["dimension"]
        tensors = {"norm.weight": torch.randn(size), "norm.bias": torch.randn(size)}
    if tensors:
        save_file(tensors, folder / "model.safetensors")


def difference(folder, **options):
    """The largest difference of our vectors and theirs, of a load and of a save."""
    theirs = SentenceTransformer(str(folder), device="cpu")
    expected = theirs.encode(TEXTS, **options)
    model = zoo.load(folder)
    options["prompt"] = options.pop("prompt_name", None) or options.pop("prompt", None)
    ours = model.embed(TEXTS, **options)
    assert ours.shape == expected.shape
    return np.abs(ours - expected).max()


def saved_again(folder, target, **options):
    """The largest difference of their vectors before and after a save of ours."""
    before = SentenceTransformer(str(folder), device="cpu")
    after = SentenceTransformer(str(zoo.save(zoo.load(folder), target)), device="cpu")
    assert (after.max_seq_length, after.prompts) == (before.max_seq_length, before.prompts)
    assert after.similarity_fn_name == before.similarity_fn_name
    assert after.default_prompt_name == before.default_prompt_name
    return np.abs(after.encode(TEXTS, **options) - before.encode(TEXTS, **options)).max()


MODES = [*_POOLINGS.values()]
PAIRS = list(itertools.permutations(MODES, 2))


@pytest.mark.parametrize("side", ["right", "left"])
def test_poolings(base, tmp_path, side):
    """All poolings and all ordered pairs of them, as one name, as a list and as booleans."""
    settings = {"do_lower_case": False, "padding_side": side}
    forms = [{"pooling_mode": mode} for mode in MODES]
    forms += [{"pooling_mode": list(pair)} for pair in PAIRS]
    forms += [{"pooling_mode": [mode, mode]} for mode in MODES[:1]]
    both = itertools.combinations(_POOLINGS, 2)
    forms += [dict.fromkeys(keys, True) for keys in [*((key,) for key in _POOLINGS), *both]]
    forms += [{}, {"pooling_mode_mean_tokens": False}]
    forms += [{"pooling_mode": "cls", "pooling_mode_max_tokens": True}]
    folder = written(base, tmp_path, files={"tokenizer_config.json": settings})
    reference = SentenceTransformer(str(folder), device="cpu")
    features = reference.preprocess(TEXTS)
    with torch.no_grad():
        states = reference[0](features)
    from sentence_transformers.models import Pooling

    from zoo.layers.text import TextPool
    from zoo.registry import sentence_config

    for form in forms:
        config = {"embedding_dimension": 24, **form}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
        theirs = Pooling.load(str(folder), subfolder="1_Pooling")(dict(states))
        read = sentence_config.read(lambda n: _text(folder / n), origin="x")
        pool = TextPool(read.fields["pooling"])
        mask = states["attention_mask"].numpy()
        ours = pool(states["token_embeddings"].numpy(), attention_mask=mask)
        expected = theirs["sentence_embedding"].numpy()
        assert np.abs(np.asarray(ours) - expected).max() < 1e-5, form
        again = sentence_config._pooling(
            sentence_config._pooling_config(read.fields, 24), "a pooling written again"
        )
        assert again["pooling"] == read.fields["pooling"], form


def _text(path):
    return path.read_text() if path.is_file() else None


@pytest.mark.parametrize(("side", "new"), [("right", False), ("left", True)])
def test_whole_models(base, tmp_path, side, new):
    """All poolings at once, with the older and the newer paths of the modules' types."""
    (tmp_path / "theirs").mkdir()
    settings = {"do_lower_case": False, "padding_side": side, "model_max_length": 30}
    files = {"tokenizer_config.json": settings}
    pooling = {"pooling_mode": MODES[::-1]}
    chain = [dense(24 * len(MODES), 10), ("Normalize", {})]
    folder = written(base, tmp_path / "theirs", *chain, files=files, pooling=pooling, new=new)
    assert difference(folder) < 1e-5
    assert saved_again(folder, tmp_path / "ours") < 1e-6


def dense(inputs, outputs, act="Tanh", **more):
    package = "linear" if act == "Identity" else "activation"
    path = f"torch.nn.modules.{package}.{act}"
    return "Dense", {"in_features": inputs, "out_features": outputs} | {
        "activation_function": path,
        **more,
    }


CHAINS = {
    "dense": [dense(24, 10)],
    "no bias": [dense(24, 10, bias=False)],
    "default activation": [("Dense", {"in_features": 24, "out_features": 10})],
    "two": [dense(24, 10, "ReLU"), dense(10, 24, "Identity")],
    "after normalize": [("Normalize", {}), dense(24, 12), ("Normalize", {})],
    "normalize twice": [("Normalize", {}), ("Normalize", {})],
    "dropout": [("Dropout", {"dropout": 0.5}), dense(24, 8), ("Dropout", {})],
    "layer norm": [("LayerNorm", {"dimension": 24}), dense(24, 8), ("LayerNorm", {"dimension": 8})],
    "residual": [dense(24, 24, use_residual=True), dense(24, 10, use_residual=True)],
    "names of version 6": [
        dense(24, 8, module_input_name="sentence_embedding", module_output_name=None),
        ("Normalize", {"module_input_name": "sentence_embedding"}),
    ],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_modules(base, tmp_path, chain):
    (tmp_path / "theirs").mkdir()
    folder = written(base, tmp_path / "theirs", *CHAINS[chain])
    assert difference(folder) < 1e-5
    assert saved_again(folder, tmp_path / "ours") < 1e-6


def test_activations(base):
    from zoo.layers.activation import activation

    x = torch.linspace(-8, 8, 201, dtype=torch.float64)
    for theirs, ours in _ACTIVATIONS.items():
        expected = getattr(torch.nn, theirs)()(x).numpy()
        assert np.abs(np.asarray(activation(ours)(x.numpy())) - expected).max() < 1e-12, theirs


PROMPTS = {"query": "query: ", "passage": None}
FILES = {
    "lower case": {"sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": True}},
    "longer than the tokenizer": {
        "sentence_bert_config.json": {"max_seq_length": 36},
        "tokenizer_config.json": {"model_max_length": 16, "do_lower_case": False},
    },
    "the tokenizer's length": {
        "sentence_bert_config.json": {"max_seq_length": None},
        "tokenizer_config.json": {"model_max_length": 16},
    },
    "arguments of the tokenizer": {
        "sentence_bert_config.json": {
            "max_seq_length": 20,
            "tokenizer_args": {"model_max_length": 12},
            "model_args": {"torch_dtype": "float32"},
        }
    },
    "as version 6 writes it": {
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
        }
    },
    "cut": {SETTINGS: {"truncate_dim": 8, "similarity_fn_name": "dot"}},
    "cut beyond": {SETTINGS: {"truncate_dim": 80, "model_type": "SentenceTransformer"}},
    "usual prompt": {SETTINGS: {"prompts": PROMPTS, "default_prompt_name": "query"}},
    "usual prompt of no text": {SETTINGS: {"default_prompt_name": "document"}},
    **{
        name: {"sentence_bert_config.json": {}, name: {"max_seq_length": 7, "do_lower_case": True}}
        for name in TRANSFORMERS[1:3]
    },
}


@pytest.mark.parametrize("case", FILES)
def test_settings(base, tmp_path, case):
    (tmp_path / "theirs").mkdir()
    chain = [("Normalize", {})] if case.startswith("cut") else []
    folder = written(base, tmp_path / "theirs", *chain, files=FILES[case])
    assert difference(folder) < 1e-5
    assert saved_again(folder, tmp_path / "ours") < 1e-6


@pytest.mark.parametrize("side", ["right", "left"])
def test_prompts_that_do_not_count(base, tmp_path, side):
    (tmp_path / "theirs").mkdir()
    files = {
        SETTINGS: {"prompts": PROMPTS},
        "tokenizer_config.json": {"do_lower_case": False, "padding_side": side},
    }
    pooling = {"pooling_mode": MODES, "include_prompt": False}
    folder = written(base, tmp_path / "theirs", files=files, pooling=pooling)
    assert difference(folder) < 1e-5
    assert difference(folder, prompt_name="query") < 1e-5
    assert difference(folder, prompt="the cat: ") < 1e-5
    assert saved_again(folder, tmp_path / "ours", prompt_name="query") < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_networks(base, tmp_path, kind):
    """The network without its head, whatever class the config names."""
    (tmp_path / "network").mkdir()
    (tmp_path / "theirs").mkdir()
    KINDS[kind].make(KINDS[kind].language).save_pretrained(tmp_path / "network")
    AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "network")
    files = {"sentence_bert_config.json": {"max_seq_length": 30}}
    if kind == "gpt2":  # which would read the parts of a text as tokens
        settings = json.loads((tmp_path / "network" / "tokenizer_config.json").read_text())
        settings["model_input_names"] = ["input_ids", "attention_mask"]
        files["tokenizer_config.json"] = settings
    folder = written(tmp_path / "network", tmp_path / "theirs", dense(24, 10), files=files)
    assert difference(folder) < 1e-5
    assert saved_again(folder, tmp_path / "ours") < 1e-6
