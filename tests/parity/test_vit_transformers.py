"""Vision Transformers of transformers: outputs, saves and configs, for every model type."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from reference import Widened, assert_same_bits, relative_error, torch
from safetensors.numpy import load_file, save_file

import zoo
from zoo.errors import ConfigError
from zoo.registry import transformers_config
from zoo.registry.transformers_config import MODEL_TYPES

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

WIDTHS = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
PATCHES = {"image_size": 40, "patch_size": 8}
PLAIN = {**WIDTHS, **PATCHES, "intermediate_size": 50}
DINO = {**WIDTHS, **PATCHES, "mlp_ratio": 3, "layerscale_value": 0.3}
TEXT = {**WIDTHS, "intermediate_size": 40, "vocab_size": 60}
NAMES = {"id2label": {0: "cat", 1: "dog", 2: "owl"}}


@dataclasses.dataclass(frozen=True)
class Case:
    """A class of transformers, its config, and what of its result is ours."""

    model: str
    config: str
    options: dict
    result: str
    call: str = "__call__"

    def make(self):
        torch.manual_seed(0)
        config = getattr(transformers, self.config)(**self.options)
        config._attn_implementation = "eager"
        reference = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for name, parameter in reference.named_parameters():
                spread = 0.3 if parameter.ndim == 1 or "embed" in name else 0.1
                parameter.add_(torch.randn_like(parameter) * spread)
        return reference

    def run(self, reference, x, **options):
        pixels = torch.tensor(np.asarray(x, np.float64)).permute(0, 3, 1, 2)
        method = getattr(reference.double(), self.call)
        with torch.no_grad(), Widened():
            result = method(pixel_values=pixels, **options)
        return result[self.result].numpy()


HALVES = {"vision_config": PLAIN, "text_config": TEXT}
CASES = {
    "vit": Case("ViTForImageClassification", "ViTConfig", PLAIN | NAMES, "logits"),
    "vit without bias": Case("ViTModel", "ViTConfig", PLAIN | {"qkv_bias": False}, "pooler_output"),
    "vit, other options": Case(
        "ViTForImageClassification",
        "ViTConfig",
        PLAIN | {"hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "num_channels": 2},
        "logits",
    ),
    "deit": Case("DeiTForImageClassification", "DeiTConfig", PLAIN | NAMES, "logits"),
    "deit with teacher": Case(
        "DeiTForImageClassificationWithTeacher", "DeiTConfig", PLAIN | NAMES, "logits"
    ),
    "deit features": Case("DeiTModel", "DeiTConfig", PLAIN, "pooler_output"),
    "dinov2": Case("Dinov2ForImageClassification", "Dinov2Config", DINO | NAMES, "logits"),
    "dinov2 features": Case(
        "Dinov2Model", "Dinov2Config", DINO | {"use_swiglu_ffn": True}, "pooler_output"
    ),
    "dinov2_with_registers": Case(
        "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINO, "pooler_output"
    ),
    "dinov2_with_registers classes": Case(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        DINO | NAMES | {"num_register_tokens": 2, "use_swiglu_ffn": True},
        "logits",
    ),
    "clip_vision_model": Case("CLIPVisionModel", "CLIPVisionConfig", PLAIN, "pooler_output"),
    "clip with projection": Case(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        PLAIN | {"projection_dim": 9},
        "image_embeds",
    ),
    "clip, both halves": Case(
        "CLIPModel",
        "CLIPConfig",
        HALVES | {"projection_dim": 9},
        "pooler_output",
        "get_image_features",
    ),
    "siglip_vision_model": Case("SiglipVisionModel", "SiglipVisionConfig", PLAIN, "pooler_output"),
    "siglip classes": Case(
        "SiglipForImageClassification", "SiglipConfig", {"vision_config": PLAIN} | NAMES, "logits"
    ),
    "siglip, both halves": Case(
        "SiglipModel", "SiglipConfig", HALVES, "pooler_output", "get_image_features"
    ),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """A case, its reference in float64 and the folder that transformers saved it to."""
    case, folder = CASES[request.param], tmp_path_factory.mktemp("theirs")
    reference = case.make()
    reference.save_pretrained(folder)
    return case, reference, folder


@pytest.fixture(scope="module")
def saved(pair):
    """Our model of a pair in float32, and the folder that it was saved to."""
    model = zoo.load(pair[2])
    return model, zoo.save(model, pair[2] / "ours")


def images(height: int, width: int, channels: int = 3) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=(2, height, width, channels))
    return noise.astype(np.float32).astype(np.float64)


def channels(case) -> int:
    return case.options.get("num_channels", 3)


def test_outputs_at_the_native_size(pair):
    case, reference, folder = pair
    x = images(40, 40, channels(case))
    ours = zoo.load(folder, dtype="float64")(tf.constant(x))
    assert relative_error(ours, case.run(reference, x)) < 1e-9


def test_outputs_at_another_size(pair):
    case, reference, folder = pair
    dynamic = "Dinov2" in case.model
    x = images(48, 32, channels(case))
    theirs = case.run(reference, x, **({} if dynamic else {"interpolate_pos_encoding": True}))
    sized = {} if dynamic else {"input_size": (48, 32)}
    model = zoo.load(folder, dtype="float64", **sized)
    assert relative_error(model(tf.constant(x)), theirs) < 1e-9
    if dynamic:  # the size is known at run time alone
        unknown = tf.function(
            model, input_signature=[tf.TensorSpec((None, None, None, 3), "float64")]
        )
        assert relative_error(unknown(tf.constant(x)), theirs) < 1e-9


def test_float32(pair, saved):
    case, reference, _ = pair
    x = images(40, 40, channels(case))
    exact = case.run(reference, x)
    assert relative_error(saved[0](tf.constant(x.astype(np.float32))), exact) < 1e-5


def test_a_save_is_the_same_bit_for_bit(pair, saved):
    (_, _, folder), (model, ours) = pair, saved
    before, after = (load_file(f / "model.safetensors") for f in (folder, ours))
    ignored = {name for name in before if name in model.load_report.ignored}
    assert all("text" in n or "logit" in n or ".head." in n for n in ignored)
    assert set(after) == set(before) - ignored
    for name, tensor in after.items():
        assert tensor.dtype == before[name].dtype
        assert tensor.tobytes() == before[name].tobytes(), name


def test_transformers_loads_what_zoo_saved(pair, saved):
    (case, reference, _), (_, ours) = pair, saved
    config = json.loads((ours / "config.json").read_text())
    loaded, notes = getattr(transformers, config["architectures"][0]).from_pretrained(
        ours, output_loading_info=True, attn_implementation="eager"
    )
    assert not notes["missing_keys"]
    assert not notes["unexpected_keys"]
    x = images(40, 40, channels(case))
    result = "pooler_output" if "Model" in case.model and "Projection" not in case.model else None
    result = "image_embeds" if "CLIPModel" in case.model else result or case.result
    again = dataclasses.replace(case, result=result, call="__call__")
    assert relative_error(again.run(loaded.eval(), x), case.run(reference, x)) < 1e-12


def test_labels(tmp_path):
    case = CASES["vit"]
    case.make().save_pretrained(tmp_path)
    model = zoo.load(tmp_path)
    assert model.labels == ("cat", "dog", "owl")
    zoo.save(model, tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert written["id2label"] == {"0": "cat", "1": "dog", "2": "owl"}


@pytest.mark.parametrize("kind", MODEL_TYPES)
def test_defaults_are_transformers(kind):
    theirs = transformers.CONFIG_MAPPING[kind]().to_dict()
    for key, value in MODEL_TYPES[kind].defaults.items():
        if key != "pooler_output_size":  # theirs is the width
            assert theirs[key] == value, key
    read = transformers_config.read(theirs | {"architectures": None}, where="theirs")
    assert read.fields == transformers_config.read({"model_type": kind}, where="ours").fields


def test_a_file_with_the_older_prefix(tmp_path):
    """Published CLIP towers have `vision_model.` before their names; transformers drops it now."""
    case = CASES["clip_vision_model"]
    reference = case.make()
    reference.save_pretrained(tmp_path)
    bare = load_file(tmp_path / "model.safetensors")
    assert not any(name.startswith("vision_model.") for name in bare)
    old = {f"vision_model.{name}": tensor for name, tensor in bare.items()}
    old["vision_model.embeddings.position_ids"] = np.arange(26, dtype=np.int64)[None]
    save_file(old, tmp_path / "model.safetensors")
    model = zoo.load(tmp_path, dtype="float64")
    x = images(40, 40)
    assert relative_error(model(tf.constant(x)), case.run(reference, x)) < 1e-9
    zoo.save(model, tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert_same_bits(*({k: torch.tensor(v) for k, v in f.items()} for f in (again, old)))


def test_what_has_no_form_in_transformers_is_refused(tmp_path):
    model = zoo.load("vit", pretrained=False, depth=1, embed_dim=8, num_heads=2, qk_norm=True)
    with pytest.raises(ConfigError, match="qk_norm"):
        zoo.save(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vits"}, "Did you mean 'vit'"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "ViTForMaskedImageModeling"),
        ({"hidden_act": "gelo"}, "Did you mean 'gelu'"),
        ({"head_dim": 3}, "sets head_dim to 3, which transformers reads"),
    ],
)
def test_a_config_that_zoo_does_not_know(change, message, tmp_path):
    CASES["vit"].make().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        zoo.load(tmp_path)
