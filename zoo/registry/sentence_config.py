"""The files of sentence-transformers: how one vector is made of a text's tokens.

`modules.json` lists a Transformer, a Pooling, and perhaps Dense and Normalize modules, each with a
folder of its own (`sentence_transformers/models/*.py`; 5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo import typed
from zoo.errors import ConfigError
from zoo.parsing import parse_json
from zoo.registry.transformers_types import Fields
from zoo.typed import Size, fits

MODULES = "modules.json"

# Key of a pooling's config -> our name, in the order in which the results stand side by side.
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {"Tanh": "tanh", "Identity": "linear", "ReLU": "relu", "GELU": "gelu"}
_ACTIVATIONS |= {"SiLU": "silu", "Sigmoid": "sigmoid"}

Read = Callable[[str], str | None]  # the content of a file, None where there is none


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What the files say.

    Attributes:
        fields: of the network's config.
        folders: those of the dense layers, in order.
        max_length: tokens of the longest text; None: the network's.
        prompts, default_prompt: texts to put before others.
    """

    fields: Fields
    folders: tuple[str, ...] = ()
    max_length: Size | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read(file: Read, *, origin: str) -> Sentences | None:
    """What is made of a text's tokens; None where the files do not say.

    Args:
        file: gives the content of a file.
        origin: handle of the repo or folder, named in errors.

    Raises:
        ConfigError: a module, a pooling or an activation that zoo does not have.
    """
    modules = _json(file, MODULES, origin)
    if modules is None:
        return None
    try:
        kinds = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in modules]
    except (LookupError, TypeError) as error:
        raise ConfigError(f"{origin}/{MODULES} lists no modules with type and path.") from error
    names = [kind for kind, _ in kinds]
    if names[:2] != ["Transformer", "Pooling"] or kinds[0][1]:
        raise ConfigError(
            f"{origin}/{MODULES} has {', '.join(names)}; zoo reads a Transformer in the main "
            "folder, then a Pooling, then Dense and Normalize modules."
        )
    fields: Fields = {"head": "sentence", "pooling": (), "pooling_dense": (), "normalize": False}
    fields["pooling"] = _pooling(_module(file, kinds[1][1], origin), f"{origin}/{kinds[1][1]}")
    folders: list[str] = []
    for kind, folder in kinds[2:]:
        if fields["normalize"] or kind not in ("Dense", "Normalize"):
            raise ConfigError(
                f"{origin}/{MODULES} has a {kind} in place {len(folders) + 2}, where zoo knows no "
                "such module."
            )
        if kind == "Dense":
            dense = _dense(_module(file, folder, origin), f"{origin}/{folder}")
            fields["pooling_dense"] += (dense,)
            folders.append(folder)
        fields["normalize"] = kind == "Normalize"
    stated = _object(file, "config_sentence_transformers.json", origin)
    length = _object(file, "sentence_bert_config.json", origin).get("max_seq_length")
    sentences = Sentences(
        fields=fields,
        folders=tuple(folders),
        max_length=length,
        prompts=stated.get("prompts") or {},
        default_prompt=stated.get("default_prompt_name"),
    )
    typed.check(Sentences, vars(sentences), where=f"{origin}, of sentence-transformers")
    return sentences


def write(
    fields: Mapping[str, Any],
    *,
    width: int,
    max_length: int | None,
    prompts: Mapping[str, str],
    default_prompt: str | None,
) -> dict[str, Any]:
    """The files by which sentence-transformers reads the same, as data by name.

    Args:
        fields: of the network's config.
        width: of a token's vector.
    """
    package = "sentence_transformers.models"
    kinds = ["Transformer", "Pooling", *["Dense"] * len(fields["pooling_dense"])]
    kinds += ["Normalize"] * fields["normalize"]
    folders = ["", *(f"{k}_{kind}" for k, kind in enumerate(kinds) if k)]
    modules = [
        {"idx": k, "name": str(k), "path": folder, "type": f"{package}.{kind}"}
        for k, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
    ]
    pooling = {key: ours in fields["pooling"] for key, ours in _POOLINGS.items()}
    files: dict[str, Any] = {
        MODULES: modules,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": dict(prompts),
            "default_prompt_name": default_prompt,
        },
        f"{folders[1]}/config.json": {"word_embedding_dimension": width, **pooling},
    }
    inputs = width * len(fields["pooling"])
    named = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    for folder, (units, bias, act) in zip(folders[2:], fields["pooling_dense"], strict=False):
        module = "linear" if act == "linear" else "activation"
        files[f"{folder}/config.json"] = {
            "in_features": inputs,
            "out_features": units,
            "bias": bias,
            "activation_function": f"torch.nn.modules.{module}.{named[act]}",
        }
        inputs = units
    return files


def _json(file: Read, name: str, origin: str) -> Any:
    text = file(name)
    return None if text is None else parse_json(text, where=f"{origin}/{name}")


def _object(file: Read, name: str, origin: str) -> Mapping[str, Any]:
    data = _json(file, name, origin) or {}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{origin}/{name} holds {data!r:.100}; an object was expected.")
    return data


def _module(file: Read, folder: str, origin: str) -> Mapping[str, Any]:
    data = _json(file, f"{folder}/config.json", origin)
    if not isinstance(data, Mapping):
        raise ConfigError(f"{origin}/{folder} has no config.json, which {MODULES} needs.")
    return data


def _pooling(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if not config.get("include_prompt", True):
        raise ConfigError(f"{where}: include_prompt is false, which zoo does not do.")
    modes = tuple(ours for key, ours in _POOLINGS.items() if config.get(key))
    if not modes and "pooling_mode" in config:  # the newer form: one name, or several
        stated = config["pooling_mode"]
        modes = (stated,) if isinstance(stated, str) else stated
    if not modes or not fits(modes, tuple[str, ...]) or not set(modes) <= set(_POOLINGS.values()):
        raise ConfigError(
            f"{where}/config.json has the pooling {modes or dict(config)}; zoo has "
            f"{', '.join(_POOLINGS.values())}."
        )
    return tuple(modes)


def _dense(config: Mapping[str, Any], where: str) -> tuple[int, bool, str]:
    if not fits(config.get("out_features"), Size):
        raise ConfigError(f"{where}/config.json has no out_features that is a size.")
    act = str(config.get("activation_function", "Identity")).rpartition(".")[2]
    if act not in _ACTIVATIONS:
        raise ConfigError(
            f"{where}/config.json has the activation {act!r}; zoo has {', '.join(_ACTIVATIONS)}."
        )
    return config["out_features"], bool(config.get("bias", True)), _ACTIVATIONS[act]
