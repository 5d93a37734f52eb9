"""A real checkpoint, all-MiniLM-L6-v2, and every kind of sentence embedding."""

import json

import numpy as np
import pytest
import tensorflow as tf
from reference import relative_error, torch
from safetensors.torch import save_file
from synthetic_texts import MINILM
from text_models import KINDS, batch, run, transformers

import zoo
from zoo.errors import ConfigError
from zoo.layers.text import POOLINGS

TEXTS = [
    "The cat sat on the mat.",
    "A feline rested on a rug.",
    "TensorFlow serves models.",
    "",
    "日本語 🎉 naïve",
    "long " * 400,
]


@pytest.mark.filterwarnings("ignore::zoo.preprocessing.text.TruncationWarning")
def test_all_minilm_l6_v2():
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    reference = transformers.AutoModel.from_pretrained(MINILM).eval()
    arrays = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        tokens = reference(**arrays).last_hidden_state
    kept = arrays["attention_mask"][..., None].float()
    theirs = torch.nn.functional.normalize((tokens * kept).sum(1) / kept.sum(1), dim=1).numpy()
    ours = zoo.load(MINILM).embed(TEXTS)
    assert np.abs(ours - theirs).max() < 2e-6


def write_modules(folder, pooling, dense=(), normalize=False) -> None:
    """The files of sentence-transformers, as that library writes them."""
    kinds = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * normalize]
    paths = ["", *(f"{k}_{kind}" for k, kind in enumerate(kinds) if k)]
    package = "sentence_transformers.models"
    modules = [
        {"idx": k, "name": str(k), "path": path, "type": f"{package}.{kind}"}
        for k, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path in paths[1:]:
        (folder / path).mkdir()
    (folder / paths[1] / "config.json").write_text(json.dumps(pooling))
    for path, layer in zip(paths[2:], dense, strict=False):
        facts = {
            "in_features": layer.in_features,
            "out_features": layer.out_features,
            "bias": layer.bias is not None,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
        (folder / path / "config.json").write_text(json.dumps(facts))
        state = {f"linear.{name}": value.detach() for name, value in layer.named_parameters()}
        save_file(state, folder / path / "model.safetensors")


def pooled(mode: str, tokens, mask):
    """The formulas of sentence-transformers' Pooling."""
    kept = mask[..., None].astype(float)
    places = np.arange(1, tokens.shape[1] + 1)[None, :, None]
    return {
        "cls": lambda: tokens[:, 0],
        "max": lambda: np.where(kept > 0, tokens, -1e9).max(1),
        "mean": lambda: (tokens * kept).sum(1) / kept.sum(1),
        "mean_sqrt_len_tokens": lambda: (tokens * kept).sum(1) / np.sqrt(kept.sum(1)),
        "weightedmean": lambda: (tokens * kept * places).sum(1) / (kept * places).sum(1),
        "lasttoken": lambda: tokens[np.arange(len(tokens)), mask.sum(1) - 1],
    }[mode]()


KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@pytest.mark.parametrize("modes", [*((m,) for m in POOLINGS), ("cls", "max", "mean")], ids=str)
def test_pooling(modes, tmp_path):
    reference = KINDS["mpnet"].make("Model")
    reference.save_pretrained(tmp_path)
    write_modules(tmp_path, {KEYS[m]: m in modes for m in KEYS})
    arrays = batch("mpnet")
    tokens = run(reference, arrays)["last_hidden_state"]
    theirs = np.concatenate([pooled(m, tokens, arrays["attention_mask"]) for m in modes], -1)
    model = zoo.load(tmp_path, dtype="float64")
    ours = model({name: tf.constant(array, tf.int32) for name, array in arrays.items()})
    assert model.task.name == "sentence-similarity"
    assert relative_error(ours, theirs) < 1e-9


def test_dense_and_normalize_and_back(tmp_path):
    torch.manual_seed(0)
    reference = KINDS["distilbert"].make("Model")
    dense = [torch.nn.Linear(24, 10), torch.nn.Linear(10, 7, bias=False)]
    for folder in ("theirs", "ours"):
        (tmp_path / folder).mkdir()
    reference.save_pretrained(tmp_path / "theirs")
    write_modules(tmp_path / "theirs", {"pooling_mode": "mean"}, dense, normalize=True)
    arrays = batch("distilbert")
    x = pooled("mean", run(reference, arrays)["last_hidden_state"], arrays["attention_mask"])
    with torch.no_grad():
        for layer in dense:
            x = torch.tanh(layer.double()(torch.tensor(x))).numpy()
    theirs = x / np.linalg.norm(x, axis=1, keepdims=True)
    zoo.save(zoo.load(tmp_path / "theirs"), tmp_path / "ours")
    for folder in ("theirs", "ours"):
        model = zoo.load(tmp_path / folder, dtype="float64")
        ours = model({name: tf.constant(array, tf.int32) for name, array in arrays.items()})
        assert relative_error(ours, theirs) < 1e-9
    for name in ("2_Dense", "3_Dense"):
        first, second = (tmp_path / f / name / "model.safetensors" for f in ("theirs", "ours"))
        assert first.stat().st_size == pytest.approx(second.stat().st_size, abs=64)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["Transformer", "Pooling", "CNN"], "has a CNN in place 2"),
        (["Transformer"], "has Transformer; zoo reads a Transformer"),
        (["StaticEmbedding"], "has StaticEmbedding"),
    ],
)
def test_modules_that_zoo_does_not_have(modules, expected, tmp_path):
    KINDS["bert"].make("Model").save_pretrained(tmp_path)
    write_modules(tmp_path, {"pooling_mode": "mean"})
    listed = [
        {
            "idx": k,
            "path": "" if k == 0 else f"{k}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for k, kind in enumerate(modules)
    ]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ConfigError, match=expected):
        zoo.load(tmp_path)
