"""Vision Transformers from load to save: sizes, features, heads, layouts, and what is refused."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from synthetic import as_trained

import zoo
from zoo.errors import ConfigError, OptionError, WeightsError
from zoo.formats.vit import FORMATS
from zoo.layers.building import named_weights
from zoo.registry import registry

SMALL = {"embed_dim": 16, "depth": 3, "num_heads": 2, "patch_size": 8, "img_size": (32, 32)}
TRANSFORMERS = [n for n in registry.list_architectures() if n in FORMATS.dialects]


def images(height=32, width=32, count=2):
    return np.random.default_rng(0).normal(size=(count, height, width, 3)).astype(np.float32)


def small(name="vit_tiny_patch16_224", **options):
    keras.utils.set_random_seed(1)
    return as_trained(zoo.load(name, pretrained=False, **{**SMALL, **options}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return zoo.save(small(num_classes=5), tmp_path_factory.mktemp("vit"))


# ---------------------------------------------------------------- image sizes


def test_another_size_needs_to_be_asked_for(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["input_size"] = [3, 48, 64]
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"\(1, 17, 16\).*\(1, 49, 16\).*input_size=.*resampled"):
        zoo.load(tmp_path)
    model = zoo.load(tmp_path, input_size=(48, 64))
    assert model.load_report.adapted == ("pos_embed",)
    assert model(images(48, 64)).shape == (2, 5)


def test_a_larger_size_is_in_model_and_preprocessing(folder):
    model = zoo.load(folder, input_size=64)
    assert model.input_shape == (None, 64, 64, 3)
    assert model.card.preprocessing.input_size == (64, 64)
    assert model.card.config["img_size"] == [64, 64]
    table = next(v for k, v in named_weights(model).items() if k == "embeddings.pos_embed")
    assert table.shape == (1, 65, 16)


def test_a_resized_model_saves_and_loads_at_its_size(folder, tmp_path):
    model = zoo.load(folder, input_size=(48, 32))
    zoo.save(model, tmp_path)
    again = zoo.load(tmp_path)
    np.testing.assert_array_equal(again(images(48, 32)), model(images(48, 32)))
    assert not again.load_report.adapted


def test_the_same_size_changes_no_bit(folder):
    model, sized = zoo.load(folder), zoo.load(folder, input_size=32)
    for ours, theirs in zip(model.weights, sized.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not sized.load_report.adapted


def test_as_many_patches_in_another_shape_are_resampled(folder):
    model = zoo.load(folder, input_size=(16, 64))
    assert model.load_report.adapted == ("pos_embed",)
    anywhere = zoo.load(folder, dynamic_img_size=True)
    np.testing.assert_allclose(
        model(images(16, 64)), anywhere(images(16, 64)), rtol=1e-4, atol=1e-5
    )


def test_any_size_where_the_network_takes_it(folder):
    model = zoo.load(folder, dynamic_img_size=True)
    assert model.input_shape == (None, None, None, 3)
    fixed = zoo.load(folder, input_size=(40, 64))
    np.testing.assert_allclose(model(images(40, 64)), fixed(images(40, 64)), rtol=1e-4, atol=1e-5)


def test_another_size_of_patches(folder):
    model = zoo.load(folder, patch_size=4)
    assert set(model.load_report.adapted) == {"patch_embed.proj.weight", "pos_embed"}
    assert model(images()).shape == (2, 5)


def test_channels_and_patches_at_once(folder):
    model = zoo.load(folder, patch_size=4, in_channels=1)
    assert model(images()[..., :1]).shape == (2, 5)


# ---------------------------------------------------------------- features and heads


def test_the_last_blocks_as_maps(folder):
    model = zoo.load(folder, features_only=True, out_indices=2, input_size=(32, 48))
    maps = model(images(32, 48))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 6, 16)] * 2
    assert [f.name for f in model.feature_info] == ["blocks.1", "blocks.2"]
    assert {f.reduction for f in model.feature_info} == {8}
    whole = zoo.load(folder, features_only=True, input_size=(32, 48))(images(32, 48))
    for ours, theirs in zip(maps, whole[1:], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_learned_tokens_come_apart(folder):
    options = {"features_only": True, "out_indices": [0, -1]}
    pairs = zoo.load(folder, return_prefix_tokens=True, **options)(images())
    maps = zoo.load(folder, **options)(images())
    for (grid, prefix), expected in zip(pairs, maps, strict=True):
        np.testing.assert_array_equal(grid, expected)
        assert prefix.shape == (2, 1, 16)


def test_early_features_need_no_later_blocks(folder, tmp_path):
    model = zoo.load(folder, features_only=True, out_indices=[0])
    assert not any("blocks.1" in layer.name for layer in model.layers)
    with pytest.raises(OptionError, match="out_indices=0"):
        zoo.load(folder, features_only=True, out_indices=0)


def test_embedding_is_what_the_head_reads(folder):
    model = zoo.load(folder)
    pictures = [np.full((40, 40, 3), k, np.uint8) for k in (0, 90, 255)]
    embedded = model.embed(pictures)
    kernel, bias = model.get_layer("head").get_weights()
    logits = model(model.preprocess(pictures))
    np.testing.assert_allclose(embedded @ kernel + bias, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(zoo.load(folder, num_classes=0).embed(pictures), embedded, atol=1e-5)


def test_both_heads_of_a_distilled_network_are_new(tmp_path):
    model = small("deit_tiny_distilled_patch16_224", num_classes=5)
    assert model.embed(np.zeros((32, 32, 3), np.uint8)).shape == (1, 16)
    zoo.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["pretrained_cfg"]["classifier"] == ["head", "head_dist"]
    tuned = zoo.load(tmp_path, num_classes=3)
    assert {n.partition(".")[0] for n in tuned.load_report.fresh} == {"head", "head_dist"}
    assert zoo.load(tmp_path, num_classes=0).embed(np.zeros((32, 32, 3), np.uint8)).shape == (1, 16)


def test_features_become_a_classifier(tmp_path):
    zoo.save(small("dinov2"), tmp_path)
    features = zoo.load(tmp_path)
    assert features.record.task == "image-feature-extraction"
    model = zoo.load(tmp_path, labels=["cat", "dog"])
    assert model.record.task == "image-classification"
    assert len(model.classify(np.zeros((40, 40, 3), np.uint8))[0]) == 2
    assert set(model.load_report.fresh) == {"head.kernel", "head.bias"}


def test_a_clip_tower_gives_its_projection():
    card = zoo.info("vit_base_patch16_clip_224.openai")
    assert card.task == "image-feature-extraction"
    assert card.config["num_classes"] == 512
    model = small(
        "vit_base_patch16_clip_224", num_classes=7
    )  # a classifier, since it was asked for
    assert model.record.task == "image-classification"


def test_tags_with_no_safetensors_are_told():
    names = [name for name in registry._index("names") if name.endswith("_ijepa")]
    assert len(names) == 4
    for name in names:
        assert zoo.info(name).weights is None
        assert name not in zoo.list_models()
        with pytest.raises(zoo.errors.NotFoundError, match="No safetensors weights"):
            zoo.load(name)


# ---------------------------------------------------------------- the ways back


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
def test_layouts_of_transformers_go_both_ways(name, gated, classes, tmp_path):
    if gated and "dinov2" not in name:
        pytest.skip("DINOv2 alone has gated MLPs")
    kind = {"mlp_layer": "swiglu_packed", "act_layer": "silu", "mlp_ratio": 6.0} if gated else {}
    head = {"num_classes": classes}
    if classes:
        head |= {
            "clip_vision_model": {"head_bias": False},
            "siglip_vision_model": {"global_pool": "avg", "fc_norm": False},
        }.get(name, {"global_pool": "cat_token_avg"} if "dinov2" in name else {})
    model = small(name, **kind, **head)
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    zoo.save(model, tmp_path / "one")
    again = zoo.load(tmp_path / "one")
    assert again.record.task == model.record.task or name == "clip_vision_model"
    ours, theirs = named_weights(model), named_weights(again)
    assert ours.keys() == theirs.keys()
    for key, weight in ours.items():
        np.testing.assert_array_equal(weight, theirs[key], err_msg=key)
    spec, expected = again.card.preprocessing, model.card.preprocessing
    assert spec.scale_size == expected.scale_size
    assert dataclasses.replace(spec, crop_pct=expected.crop_pct) == expected
    zoo.save(again, tmp_path / "two")
    first, second = (load_file(tmp_path / f / "model.safetensors") for f in ("one", "two"))
    assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}


def test_qkv_is_one_map_here_and_three_there(tmp_path):
    zoo.save(small("vit"), tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    base = "encoder.layer.0.attention.attention"
    joined = np.concatenate([names[f"{base}.{n}.weight"].T for n in ("query", "key", "value")], 1)
    model = zoo.load(tmp_path)
    np.testing.assert_array_equal(named_weights(model)["blocks.0.attn.qkv.kernel"], joined)


def test_keras_file_and_clone(folder, tmp_path):
    model = zoo.load(folder)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images()), model(images()))
    assert again.card == model.card
    assert keras.models.clone_model(model).card is None


@pytest.mark.parametrize(
    "name", ["vit_dpwee_patch16_reg1_gap_256", "vit_pwee_patch16_reg1_gap_256"]
)
def test_every_kind_of_block_survives_a_keras_file(name, tmp_path):
    model = small(name)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(images()), model(images()))


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16", "float16"])
def test_half_precision_is_near_single(folder, dtype):
    exact = np.asarray(zoo.load(folder)(images()), np.float64)
    half = np.asarray(zoo.load(folder, dtype=dtype)(images()), np.float64)
    assert np.linalg.norm(half - exact) < 3e-2 * np.linalg.norm(exact)


def test_training_reaches_every_weight(folder):
    model = zoo.load(folder, drop_rate=0.1, drop_path_rate=0.1, attn_drop_rate=0.1)
    before = [np.array(w) for w in model.trainable_weights]
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(images(count=4), np.arange(4), epochs=1, verbose=0)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        moved = np.abs(np.asarray(weight) - old).max()
        assert moved > 0 or "qkv.bias" in weight.path, weight.path


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"class_token": False}, "global_pool='token' reads the class token"),
        ({"num_heads": 3}, "embed_dim=16 cannot be cut into num_heads=3"),
        ({"patch_size": 64}, "img_size=\\(32, 32\\) has no whole patch"),
        ({"pos_embed": "sin"}, "pos_embed='sin'"),
        ({"block_fn": "blok"}, "Did you mean 'block'"),
        ({"mlp_layer": "swigl"}, "Did you mean 'swiglu'"),
        ({"norm_layer": "layernrm"}, "Did you mean 'layernorm'"),
    ],
)
def test_configs_that_cannot_be(options, match):
    with pytest.raises(ConfigError, match=match):
        small(**options)


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(OptionError, match="Did you mean 'depth'"):
        small(deepth=2)


def test_an_image_of_another_size_is_refused(folder):
    with pytest.raises(ValueError, match="expected shape"):
        zoo.load(folder)(tf.zeros((1, 48, 48, 3)))
