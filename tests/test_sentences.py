"""One vector of a text, as the files of sentence-transformers say that it is made."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from synthetic_texts import bert

import zoo
from zoo.errors import ConfigError, FileFormatError
from zoo.layers.text import POOLINGS, TextPool
from zoo.registry import sentence_config
from zoo.registry.sentence_config import SETTINGS, TRANSFORMERS

TEXTS = ["the cat", "a dog sat on the mat."]


def files_of(*kinds, pooling=None, **more):
    """The files of a model whose modules have their defaults, by name."""
    types = ["Transformer", "Pooling", *kinds]
    entries = [
        {"path": f"{k}_{kind}" if k else "", "type": f"sentence_transformers.models.{kind}"}
        for k, kind in enumerate(types)
    ]
    return {"modules.json": entries, "1_Pooling/config.json": pooling or {}, **more}


def read(files, **options):
    texts = {name: json.dumps(data) for name, data in files.items()}
    return sentence_config.read(texts.get, origin="x", **options)


def masked(modes, mask, pooling_mask=None):
    x = np.arange(2 * 4 * 3, dtype="float64").reshape(2, 4, 3) ** 1.5
    pool = TextPool(tuple(modes), dtype="float64")
    return x, np.array(pool(x, attention_mask=mask, pooling_mask=pooling_mask))


@pytest.mark.parametrize("mask", [[[1, 1, 1, 0], [1, 1, 1, 1]], [[0, 0, 1, 1], [0, 1, 1, 1]]])
def test_poolings_count_from_the_first_token_and_stand_in_their_order(mask):
    x, found = masked(list(POOLINGS)[::-1], np.array(mask))
    for row, kept, vector in zip(x, np.array(mask, bool), found, strict=True):
        tokens = row[kept]
        count = np.arange(1, len(tokens) + 1)[:, None]
        expected = {
            "cls": tokens[0],
            "max": tokens.max(0),
            "mean": tokens.mean(0),
            "mean_sqrt_len_tokens": tokens.sum(0) / len(tokens) ** 0.5,
            "weightedmean": (tokens * count).sum(0) / count.sum(),
            "lasttoken": tokens[-1],
        }
        wanted = np.concatenate([expected[mode] for mode in list(POOLINGS)[::-1]])
        np.testing.assert_allclose(vector, wanted, rtol=1e-12)


def test_tokens_that_are_not_pooled_keep_the_others_weights():
    x, found = masked(["cls", "weightedmean"], np.ones((2, 4), int), np.array([[0, 0, 1, 1]] * 2))
    np.testing.assert_allclose(found[:, :3], x[:, 2])
    np.testing.assert_allclose(found[:, 3:], (x[:, 2] * 3 + x[:, 3] * 4) / 7, rtol=1e-12)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({}, ("mean",)),
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "mean_sqrt_len_tokens"}, ("mean_sqrt_len_tokens",)),
        ({"pooling_mode": ["mean", "cls"]}, ("mean", "cls")),
        ({"pooling_mode": "max", "pooling_mode_cls_token": True}, ("max",)),
    ],
)
def test_forms_of_poolings(pooling, expected):
    fields = read(files_of(pooling={"word_embedding_dimension": 24, **pooling})).fields
    assert fields["pooling"] == expected
    written = sentence_config._pooling_config(fields, 24)
    assert read(files_of(pooling=written)).fields["pooling"] == expected


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_name_of_the_transformer_s_settings(name):
    own = {"max_seq_length": 9, "do_lower_case": True}
    found = read(files_of(**{TRANSFORMERS[0]: {}, name: own}))
    assert (found.max_length, found.lower_case) == (9, True)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"modules.json": 7}, "modules.json is 7; a list was expected"),
        ({"modules.json": [3]}, "lists no modules with type and path"),
        (files_of("CNN"), "has a CNN in place 2, which zoo does not have there"),
        (files_of("Router"), "has a Router in place 2"),
        (
            {
                "modules.json": [
                    {"path": "", "type": "sentence_transformers.models.StaticEmbedding"}
                ]
            },
            "has StaticEmbedding; zoo reads a Transformer",
        ),
        (
            {"modules.json": [{"path": "", "type": "custom_st.Transformer"}]},
            "'custom_st.Transformer', which is code of the repo's own",
        ),
        (files_of(pooling={"pooling_mode": "middle"}), "has the pooling .'middle'"),
        (files_of(pooling={"pooling_mode": []}), "has the pooling"),
        (files_of(pooling={"pooling_mode": [["cls"]]}), "has the pooling"),
        (files_of(pooling={"include_promt": True}), "Did you mean 'include_prompt'"),
        (files_of("Dense"), "no out_features"),
        (files_of("Dense", **{"2_Dense/config.json": {"out_features": True}}), "out_features is"),
        (files_of("Dense", **{"2_Dense/config.json": {"out_features": -1}}), "out_features is -1"),
        (
            files_of(
                "Dense",
                **{
                    "2_Dense/config.json": {
                        "out_features": 3,
                        "activation_function": "torch.nn.modules.activation.Tahn",
                    }
                },
            ),
            "Did you mean 'Tanh'",
        ),
        (
            files_of(
                "Dense",
                **{
                    "2_Dense/config.json": {
                        "out_features": 3,
                        "module_input_name": "token_embeddings",
                    }
                },
            ),
            "module_input_name 'token_embeddings'; zoo has 'sentence_embedding'",
        ),
        (files_of("Dropout", **{"2_Dropout/config.json": {"dropout": "much"}}), "a number was"),
        (files_of(**{TRANSFORMERS[0]: {"max_seq_length": "512"}}), "a whole number was expected"),
        (files_of(**{TRANSFORMERS[0]: {"transformer_task": "fill-mask"}}), "transformer_task"),
        (files_of(**{TRANSFORMERS[0]: {"model_args": {"rope": 1}}}), "model_args sets rope"),
        (files_of(**{SETTINGS: {"truncate_dim": 0}}), "truncate_dim is 0"),
        (files_of(**{SETTINGS: {"default_prompt_name": "x"}}), "default_prompt_name 'x'"),
        (files_of(**{SETTINGS: {"prompts": [1]}}), "prompts is .1.; an object was expected"),
    ],
)
def test_what_zoo_does_not_have_is_named(files, expected):
    with pytest.raises(ConfigError, match=expected):
        read(files)


def test_other_models_of_the_library_are_left_to_transformers():
    files = {"modules.json": [{"path": "", "type": "sentence_transformers.models.Transformer"}]}
    assert read(files, strict=False) is None
    assert read({}) is None


# ---------------------------------------------------------------- whole models


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with all that the files can say."""
    options = {
        "task": "sentence-similarity",
        "pooling": ("max", "cls"),
        "include_prompt": False,
        "truncate_dim": 6,
        "modules": (
            ("Normalize",),
            ("Dense", 12, True, "gelu", True),
            ("Dropout", 0.3),
            ("LayerNorm",),
            ("Dense", 8, False, "linear", False),
        ),
    }
    folder = bert(tmp_path_factory.mktemp("sentences"), **options)
    settings = json.loads((folder / SETTINGS).read_text())
    prompts = {"prompts": {"query": "who: ", "passage": None}, "similarity_fn_name": "dot"}
    (folder / SETTINGS).write_text(json.dumps(settings | prompts))
    own = {"max_seq_length": 12, "do_lower_case": True}
    (folder / TRANSFORMERS[0]).write_text(json.dumps(own))
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return folder


def test_a_save_says_the_same(folder, tmp_path):
    model = zoo.load(folder)
    again = zoo.load(zoo.save(model, tmp_path / "again"))
    assert again.record.card.config == model.record.card.config
    before, after = (dataclasses.replace(m.preprocess.spec, settings={}) for m in (model, again))
    assert after == before
    for prompt in (None, "query", "the cat: "):
        vectors = model.embed(TEXTS, prompt=prompt)
        assert vectors.shape == (2, 6)
        assert np.array_equal(again.embed(TEXTS, prompt=prompt), vectors)
    written = json.loads((tmp_path / "again" / SETTINGS).read_text())
    assert written["similarity_fn_name"] == "dot"
    assert written["truncate_dim"] == 6
    model.save(tmp_path / "model.keras")
    kept = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(kept.embed(TEXTS, prompt="query"), model.embed(TEXTS, prompt="query"))


def test_lower_case_and_length_are_those_of_the_files(folder):
    model = zoo.load(folder)
    assert np.array_equal(model.embed("THE CAT"), model.embed("the cat"))
    assert model.preprocess.spec.max_length == 12
    assert model.preprocess("Cat")["input_ids"].tolist() == [[2, 10, 3]]


def test_tokens_of_a_prompt_that_do_not_count(folder):
    model = zoo.load(folder)
    arrays = model.preprocess(TEXTS[:1], prompt="who: ")
    # [CLS], and "who" and ":", which is unknown
    assert arrays["pooling_mask"].tolist() == [[0, 0, 0, 1, 1, 1]]
    assert arrays["attention_mask"].tolist() == [[1] * 6]
    assert "pooling_mask" not in model.preprocess(TEXTS[:1])
    alone = np.array(model(arrays))
    np.testing.assert_allclose(alone, model.embed(TEXTS[:1], prompt="query"), atol=1e-6)


def test_another_task_has_none_of_it(folder):
    model = zoo.load(folder, labels=["good", "bad"])
    config = model.record.card.config
    assert not {"pooling", "modules", "truncate_dim"} & {k for k, v in config.items() if v}
    assert len(model.classify(TEXTS)) == 2


def test_a_language_model_s_class_with_modules_is_its_network_alone(folder, tmp_path):
    for path in folder.rglob("*"):
        if path.is_file():
            (tmp_path / path.relative_to(folder)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(folder)).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = ["BertForMaskedLM"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = zoo.load(tmp_path)
    assert model.task.name == "sentence-similarity"
    assert np.array_equal(model.embed(TEXTS), zoo.load(folder).embed(TEXTS))
    weights = tmp_path / "3_Dense" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(FileFormatError, match="3_Dense has no safetensors weights"):
        zoo.load(tmp_path)
