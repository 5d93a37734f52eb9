"""Keys of a `config.json`: each one that transformers reads is used as there, or refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import transformers
from reference import Widened, relative_error, torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import zoo
from zoo.errors import ConfigError
from zoo.registry.dialects import transformers_dialects
from zoo.registry.repo_config import card_from_config
from zoo.registry.transformers_keys import ONCE_READ, WITHOUT_EFFECT, keys_read

_TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
_IMAGE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.3,
}
SMALL = {
    **dict.fromkeys(("bert", "roberta", "electra", "mpnet"), _TEXT),
    "distilbert": {k: v for k, v in _TEXT.items() if k != "intermediate_size"} | {"hidden_dim": 24},
    "gpt2": {k: v for k, v in _TEXT.items() if k != "intermediate_size"},
    **dict.fromkeys(("vit", "clip_vision_model"), _IMAGE),
    "siglip_vision_model": {k: v for k, v in _IMAGE.items() if k != "initializer_range"},
    "dinov2": {k: v for k, v in _IMAGE.items() if k != "intermediate_size"},
}

USED = [  # a class, a key, a value that is not the default
    ("BertModel", "hidden_act", "relu"),
    ("BertModel", "layer_norm_eps", 0.1),
    ("BertModel", "num_attention_heads", 4),
    ("BertModel", "num_hidden_layers", 1),
    ("BertModel", "type_vocab_size", 3),
    ("BertForMaskedLM", "tie_word_embeddings", False),
    ("BertLMHeadModel", "is_decoder", True),
    ("RobertaModel", "pad_token_id", 3),
    ("ElectraModel", "embedding_size", 8),
    ("DistilBertModel", "activation", "relu"),
    ("DistilBertModel", "num_hidden_layers", 1),  # another name of n_layers
    ("GPT2Model", "activation_function", "relu"),
    ("GPT2Model", "n_inner", 40),
    ("GPT2Model", "scale_attn_weights", False),
    ("GPT2Model", "scale_attn_by_inverse_layer_idx", True),
    ("GPT2Model", "reorder_and_upcast_attn", True),
    ("GPT2Model", "layer_norm_epsilon", 0.1),
    ("ViTModel", "qkv_bias", False),
    ("ViTModel", "pooler_act", "relu"),
    ("ViTModel", "num_channels", 4),
    ("Dinov2Model", "mlp_ratio", 2),
    ("Dinov2Model", "use_swiglu_ffn", True),
    ("CLIPVisionModel", "hidden_act", "gelu"),
    ("SiglipVisionModel", "vision_use_head", False),
]
REFUSED = [
    ("BertModel", "add_cross_attention", True),
    ("BertModel", "is_encoder_decoder", True),
    ("BertModel", "position_embedding_type", "relative_key"),
    ("BertModel", "pruned_heads", {"0": [1]}),
    ("BertModel", "quantization_config", {"quant_method": "bitsandbytes"}),
    ("BertModel", "sliding_window", 4),
    ("BertModel", "is_causal", False),
    ("GPT2Model", "layer_types", ["sliding_attention"]),
    ("GPT2Model", "rope_scaling", {"type": "linear"}),
    ("MPNetModel", "relative_attention_num_buckets", 16),
    ("ViTModel", "head_dim", 4),
    ("ViTModel", "pooler_output_size", 8),
    ("ViTModel", "quantization_config", {}),
    ("Dinov2Model", "head_dim", 4),
]
IDLE = {  # of public files: what older releases or other libraries wrote
    "_num_labels": 5,
    "xla_device": True,
    "language": "english",
    "unk_token_id": 100,
    "adapters": {"adapters": {}, "config_map": {}},
    "output_past": True,
    "pooler_fc_size": 768,
    "directionality": "bidi",
    "use_bfloat16": True,
    "torchscript": True,
    "model_max_length": 99,
    "task_specific_params": {"text-generation": {"do_sample": True}},
    "max_length": 50,
    "auto_map": {"AutoModel": "modeling.Model"},
}


def saved(name: str, folder: Path, **keys):
    """A small model of transformers with random weights, in a folder, and its model type."""
    cls = getattr(transformers, name)
    kind = cls.config_class.model_type
    torch.manual_seed(0)
    model = cls(CONFIG_MAPPING[kind](**SMALL[kind] | keys)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    return model, kind


def with_keys(folder: Path, keys: dict) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


def first(outputs):
    """One tensor of a reference's or of our outputs: the logits, the pooled one or the states."""
    if not hasattr(outputs, "keys"):
        return np.asarray(outputs)
    names = ("logits", "pooler_output", "last_hidden_state")
    return np.asarray(next(outputs[name] for name in names if outputs.get(name) is not None))


def inputs(kind: str, channels: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    if kind in ("bert", "roberta", "electra", "mpnet", "distilbert", "gpt2"):
        return {"input_ids": rng.integers(4, 40, size=(2, 7), dtype=np.int64)}
    return {"pixel_values": rng.normal(size=(2, channels, 32, 32))}


def outputs(model, kind: str, channels: int = 3) -> np.ndarray:
    given = {k: torch.tensor(v) for k, v in inputs(kind, channels).items()}
    with torch.no_grad(), Widened():
        return first(model.double()(**given))


def our_outputs(folder: Path, kind: str, channels: int = 3) -> np.ndarray:
    model, x = zoo.load(folder, dtype="float64"), inputs(kind, channels)
    if "pixel_values" in x:
        return first(model(tf.constant(x["pixel_values"].transpose(0, 2, 3, 1))))
    return first(model({"input_ids": tf.constant(x["input_ids"], tf.int32)}))


@pytest.mark.parametrize(("name", "key", "value"), USED)
def test_a_key_is_used_as_there(name, key, value, tmp_path):
    default, kind = saved(name, tmp_path / "default")
    assert key in {**keys_read(kind), **type(default.config).attribute_map}
    reference, kind = saved(name, tmp_path / "keys", **{key: value})
    channels = value if key == "num_channels" else 3
    with_keys(tmp_path / "keys", {key: value})
    theirs = outputs(reference, kind, channels)
    if key == "vision_use_head":  # then there is no pooler; ours is the average
        theirs = theirs.mean(axis=1)
    assert relative_error(our_outputs(tmp_path / "keys", kind, channels), theirs) < 1e-9


def test_twenty_keys():
    assert len({(name, key) for name, key, _ in (*USED, *REFUSED)}) >= 20


@pytest.mark.parametrize(("name", "key", "value"), REFUSED)
def test_a_key_is_refused(name, key, value, tmp_path):
    saved(name, tmp_path)
    with_keys(tmp_path, {key: value})
    with pytest.raises(ConfigError, match=key):
        zoo.load(tmp_path)


@pytest.mark.parametrize("name", ["BertModel", "GPT2Model", "ViTModel"])
def test_keys_that_are_not_read_change_nothing_there_nor_here(name, tmp_path):
    reference, kind = saved(name, tmp_path)
    with_keys(tmp_path, IDLE)
    theirs = type(reference).from_pretrained(tmp_path)
    assert relative_error(outputs(theirs, kind), outputs(reference, kind)) == 0
    assert set(zoo.load(tmp_path).load_report.idle) == set(IDLE)
    assert relative_error(our_outputs(tmp_path, kind), outputs(reference, kind)) < 1e-9


def test_the_older_config_of_the_vision_half_wins(tmp_path):
    saved("CLIPVisionModel", tmp_path)
    vision = json.loads((tmp_path / "config.json").read_text())
    whole = {"model_type": "clip", "vision_config_dict": vision, "vision_config": vision}
    whole["vision_config"] = vision | {"hidden_act": "relu", "num_hidden_layers": 9}
    theirs = transformers.CLIPConfig(**json.loads(json.dumps(whole))).vision_config
    assert (theirs.hidden_act, theirs.num_hidden_layers) == ("quick_gelu", 2)
    card = card_from_config(whole | {"architectures": ["CLIPModel"]}, origin="theirs")
    assert (card.config["act_layer"], card.config["depth"]) == ("quick_gelu", 2)


def test_reasons_are_of_keys_that_are_read():
    dialects = dict(transformers_dialects())
    read = {key for kind in (*dialects, "*") for key in keys_read(kind)}
    assert not [key for key in WITHOUT_EFFECT if key not in read | {"torch_dtype"}]
    assert not [key for key in ONCE_READ if key in read]
    for kind, type_ in dialects.items():
        known = {*keys_read(kind), *CONFIG_MAPPING[kind].attribute_map}
        assert not [key for key in type_.idle if key not in known], kind


@pytest.mark.parametrize(
    ("name", "buffer"),
    [
        ("BertModel", "embeddings.position_ids"),
        ("BertModel", "embeddings.token_type_ids"),
        ("RobertaModel", "embeddings.token_type_ids"),
        ("DistilBertModel", "embeddings.position_ids"),
        ("ElectraModel", "embeddings.token_type_ids"),
        ("GPT2Model", "h.0.attn.bias"),
        ("GPT2Model", "h.1.attn.masked_bias"),
        ("CLIPVisionModel", "embeddings.position_ids"),
    ],
)
def test_buffers_of_older_files(name, buffer, tmp_path):
    from safetensors.torch import load_file, save_file

    reference, kind = saved(name, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[buffer] = torch.zeros(1, 32, dtype=torch.int64)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert relative_error(our_outputs(tmp_path, kind), outputs(reference, kind)) < 1e-9
