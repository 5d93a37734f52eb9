"""The files of sentence-transformers: how one vector is made of a text's tokens.

`modules.json` lists a Transformer, a Pooling, and then what is done to the vector, each with a
folder of its own (`sentence_transformers/base/model.py`, `base/modules/*.py` and
`sentence_transformer/modules/*.py`; 6.2.0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import ConfigError, did_you_mean
from zoo.parsing import parse_json
from zoo.registry.config_keys import Fields

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
WEIGHTED = ("Dense", "LayerNorm")  # the modules with weights, in files of their own

# Where the settings of the Transformer stand: the first of these that says anything.
TRANSFORMERS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# The older key of each pooling -> its name, in the order in which they then stand side by side.
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# torch's modules, which are made with no arguments
_ACTIVATIONS = {
    "Tanh": "tanh",
    "Identity": "linear",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "LeakyReLU": "leaky_relu",
    "ReLU6": "relu6",
    "Hardswish": "hard_swish",
    "Mish": "mish",
    "ELU": "elu",
    "SELU": "selu",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "LogSigmoid": "log_sigmoid",
    "Hardtanh": "hard_tanh",
    "Hardsigmoid": "hard_sigmoid",
    "Tanhshrink": "tanh_shrink",
}
# Prompts that every model has, empty where its files have none.
_PROMPTS = ("query", "document")

Read = Callable[[str], str | None]  # the content of a file, None where there is none
Keys = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """What the files say.

    Attributes:
        fields: of the network's config.
        folders: those of the modules after the pooling, in order.
        max_length: tokens of the longest text; None: as for the network alone.
        lower_case: whether texts are put into lower case first.
        prompts, default_prompt: texts to put before others.
        similarity: how vectors are compared.
    """

    fields: Fields
    folders: tuple[str, ...] = ()
    max_length: int | None = None
    lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None


def read(file: Read, *, origin: str, strict: bool = True) -> Sentences | None:
    """What is made of a text's tokens; None where the files do not say.

    Args:
        file: gives the content of a file.
        origin: handle of the repo or folder, named in errors.
        strict: whether modules that do not begin with a Transformer and a Pooling are an error,
            and not None.

    Raises:
        ConfigError: a module, a pooling, an activation or a setting that zoo does not have.
    """
    modules = _json(file, MODULES, origin)
    if modules is None:
        return None
    where = f"{origin}/{MODULES}"
    kinds = [_module(module, where) for module in _typed(modules, list, where)]
    names = [kind for kind, _ in kinds]
    if names[:2] != ["Transformer", "Pooling"] or kinds[0][1]:
        if not strict:
            return None
        raise ConfigError(
            f"{where} has {', '.join(f'{n} in {p!r}' if p else n for n, p in kinds) or 'nothing'}; "
            "zoo reads a Transformer in the main folder, then a Pooling, then "
            f"{', '.join(_READERS)}."
        )
    fields = _pooling(_config(file, kinds[1][1], origin), f"{origin}/{kinds[1][1]}")
    fields["modules"] = ()
    for k, (kind, folder) in enumerate(kinds[2:], start=2):
        if kind not in _READERS:
            raise ConfigError(
                f"{where} has a {kind} in place {k}, which zoo does not have there; after the "
                f"Pooling it has {', '.join(_READERS)}.{did_you_mean(kind, _READERS)}"
            )
        options = _READERS[kind](_config(file, folder, origin), f"{origin}/{folder}")
        fields["modules"] += ((kind, *options),)
    transformer = _transformer(file, origin)
    return Sentences(
        fields={"head": "sentence", **fields} | _truncation(file, origin),
        folders=tuple(folder for _, folder in kinds[2:]),
        max_length=transformer.get("max_seq_length"),
        lower_case=transformer.get("do_lower_case") or False,
        **_prompts(file, origin),
    )


def folders_of(modules: tuple[tuple[Any, ...], ...]) -> list[str]:
    """The folders in which `write` puts the modules after the pooling."""
    return [f"{k}_{kind}" for k, (kind, *_) in enumerate(modules, start=2)]


def write(
    fields: Keys,
    *,
    width: int,
    max_length: int | None,
    lower_case: bool,
    prompts: Mapping[str, str],
    default_prompt: str | None,
    similarity: str | None,
) -> dict[str, Any]:
    """The files by which sentence-transformers reads the same, as data by name.

    Args:
        fields: of the network's config.
        width: of a token's vector.
        max_length, lower_case, prompts, default_prompt, similarity: as of `Sentences`.
    """
    package = "sentence_transformers.models"  # which all of its versions read
    modules = fields["modules"]
    kinds = ["Transformer", "Pooling", *(kind for kind, *_ in modules)]
    folders = ["", "1_Pooling", *folders_of(modules)]
    settings = {"similarity_fn_name": similarity, "truncate_dim": fields["truncate_dim"]}
    files: dict[str, Any] = {
        MODULES: [
            {"idx": k, "name": str(k), "path": folder, "type": f"{package}.{kind}"}
            for k, (kind, folder) in enumerate(zip(kinds, folders, strict=True))
        ],
        TRANSFORMERS[0]: {"max_seq_length": max_length, "do_lower_case": lower_case},
        SETTINGS: {
            "prompts": dict(prompts),
            "default_prompt_name": default_prompt,
            **{key: value for key, value in settings.items() if value is not None},
        },
        "1_Pooling/config.json": _pooling_config(fields, width),
    }
    inputs = width * len(fields["pooling"])
    for folder, (kind, *options) in zip(folders[2:], modules, strict=True):
        files[f"{folder}/config.json"] = _WRITERS[kind](inputs, *options)
        inputs = options[0] if kind == "Dense" else inputs
    return files


# ---------------------------------------------------------------- values of files


def _json(file: Read, name: str, origin: str) -> Any:
    text = file(name)
    return None if text is None else parse_json(text, where=f"{origin}/{name}")


def _typed(value: Any, kind: Any, where: str) -> Any:
    """A value of a file, if it is of a type; a bool is no number."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where} is {value!r:.200}; {_KINDS[kind]} was expected.")
    return value


_KINDS = {
    list: "a list",
    dict: "an object",
    str: "a text",
    int: "a whole number",
    (int, float): "a number",
    bool: "true or false",
}


def _get(config: Keys, key: str, kind: Any, where: str, default: Any = None) -> Any:
    """A key's value of a type, or the default where it is missing or null."""
    value = config.get(key)
    return default if value is None else _typed(value, kind, f"{where}: {key}")


def _size(config: Keys, key: str, where: str, default: Any = None) -> Any:
    size = _get(config, key, int, where, default)
    if size is not None and not 0 < size < 1 << 31:
        raise ConfigError(f"{where}: {key} is {size}; a number from 1 to 2147483647 was expected.")
    return size


def _object(file: Read, name: str, origin: str) -> dict[str, Any]:
    """A JSON object; an empty one where the file is missing."""
    data = _json(file, name, origin)
    return {} if data is None else _typed(data, dict, f"{origin}/{name}")


def _module(module: Any, where: str) -> tuple[str, str]:
    """The class and the folder of an entry of `modules.json`."""
    if not isinstance(module, Mapping) or not {"type", "path"} <= module.keys():
        raise ConfigError(f"{where} lists no modules with type and path.")
    kind, path = (_typed(module[key], str, f"{where}: {key}") for key in ("type", "path"))
    package, _, name = kind.rpartition(".")
    if package.partition(".")[0] != "sentence_transformers":
        raise ConfigError(
            f"{where} has a module of the type {kind!r}, which is code of the repo's own. zoo runs "
            "no code of a repo, and reads modules of sentence_transformers alone."
        )
    return name, path


def _config(file: Read, folder: str, origin: str) -> dict[str, Any]:
    return _object(file, f"{folder}/config.json", origin)


def _refuse_others(config: Keys, known: Mapping[str, Any], where: str) -> None:
    """Raise `ConfigError` for a key that is not known, or has not the value that zoo has.

    Args:
        known: keys, each with the values that change nothing; Ellipsis: all.
    """
    for key, value in config.items():
        if key not in known:
            raise ConfigError(
                f"{where} sets {key}, which zoo does not know.{did_you_mean(key, known)}"
            )
        if known[key] is not ... and value not in known[key]:
            allowed = " or ".join(repr(v) for v in known[key] if v is not None) or "nothing"
            raise ConfigError(f"{where} has {key} {value!r:.200}; zoo has {allowed} there.")


# ---------------------------------------------------------------- the transformer

_NO_CODE = ("trust_remote_code", "torch_dtype", "dtype", "attn_implementation", "use_safetensors")
_TRANSFORMER: dict[str, Any] = {
    "max_seq_length": ...,
    "do_lower_case": ...,
    "transformer_task": (None, "feature-extraction"),
    "module_output_name": (None, "token_embeddings"),
    "modality_config": ...,
    "model_args": ...,
    "model_kwargs": ...,
    "tokenizer_args": ...,
    "processor_kwargs": ...,
    "config_args": ...,
    "config_kwargs": ...,
    "processing_kwargs": (None, {}),
    "unpad_inputs": ...,
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
}


def _transformer(file: Read, origin: str) -> dict[str, Any]:
    """The settings of the Transformer: `max_seq_length` and `do_lower_case`, checked."""
    for name in TRANSFORMERS:
        if config := _object(file, name, origin):
            break
    else:
        return {}
    where = f"{origin}/{name}"
    _refuse_others(config, _TRANSFORMER, where)
    text = _get(config, "modality_config", dict, where, {}).get("text")
    if text is not None and (
        not isinstance(text, Mapping)
        or (text.get("method"), text.get("method_output_name")) != ("forward", "last_hidden_state")
    ):
        raise ConfigError(f"{where} takes {text!r:.200} of the network; zoo its last_hidden_state.")
    for key in ("model_args", "model_kwargs", "config_args", "config_kwargs"):
        _refuse_others(
            _get(config, key, dict, where, {}), dict.fromkeys(_NO_CODE, ...), f"{where}: {key}"
        )
    lengths = [_size(config, "max_seq_length", where)]
    for key in ("tokenizer_args", "processor_kwargs"):
        options = _get(config, key, dict, where, {})
        idle = {"model_max_length": ..., "use_fast": ..., "trust_remote_code": ...}
        _refuse_others(options, idle, f"{where}: {key}")
        lengths.append(_size(options, "model_max_length", f"{where}: {key}"))
    lower = _get(config, "do_lower_case", bool, where, False)
    known = [length for length in lengths if length is not None]
    return {"max_seq_length": known[-1] if known else None, "do_lower_case": lower}


# ---------------------------------------------------------------- the pooling


def _pooling(config: Keys, where: str) -> Fields:
    """Which poolings there are, and whether they count the prompt."""
    where = f"{where}/config.json"
    own = {"embedding_dimension": ..., "word_embedding_dimension": ..., "pooling_mode": ...}
    _refuse_others(config, own | {"include_prompt": ...} | dict.fromkeys(_POOLINGS, ...), where)
    stated = config.get("pooling_mode")
    if stated is None:  # the older form, in which none is the mean
        modes = tuple(name for key, name in _POOLINGS.items() if config.get(key)) or ("mean",)
    else:  # one name, or several in their order
        modes = (stated,) if isinstance(stated, str) else tuple(_typed(stated, list, where))
    if unknown := [mode for mode in modes if mode not in _POOLINGS.values()] or not modes:
        raise ConfigError(
            f"{where} has the pooling {unknown or modes!r:.200}; zoo has "
            f"{', '.join(_POOLINGS.values())}."
        )
    prompt = _get(config, "include_prompt", bool, where, True)
    return {"pooling": modes, "include_prompt": prompt}


def _pooling_config(fields: Keys, width: int) -> dict[str, Any]:
    """The older form, which all versions read, where it can say the same."""
    modes = tuple(fields["pooling"])
    config: dict[str, Any] = {"word_embedding_dimension": width}
    config |= {key: name in modes for key, name in _POOLINGS.items()}
    if modes != tuple(name for name in _POOLINGS.values() if name in modes):
        config = {"embedding_dimension": width, "pooling_mode": list(modes)}
    return config if fields["include_prompt"] else {**config, "include_prompt": False}


# ---------------------------------------------------------------- what comes after it

_VECTOR = {
    "module_input_name": (None, "sentence_embedding"),
    "module_output_name": (None, "sentence_embedding"),
}


def _dense(config: Keys, where: str) -> tuple[Any, ...]:
    """Outputs, bias, activation and whether the input is added."""
    where = f"{where}/config.json"
    own = ("in_features", "out_features", "bias", "activation_function", "use_residual")
    _refuse_others(config, dict.fromkeys(own, ...) | _VECTOR, where)
    units = _size(config, "out_features", where)
    if units is None:
        raise ConfigError(f"{where} has no out_features, which a Dense needs.")
    path = _get(config, "activation_function", str, where, "torch.nn.modules.activation.Tanh")
    package, _, name = path.rpartition(".")
    if package.partition(".")[0] != "torch" or name not in _ACTIVATIONS:
        raise ConfigError(
            f"{where} has the activation {path!r}; zoo has those of torch.nn of the names "
            f"{', '.join(_ACTIVATIONS)}.{did_you_mean(name, _ACTIVATIONS)}"
        )
    bias, residual = (
        _get(config, key, bool, where, default)
        for key, default in (("bias", True), ("use_residual", False))
    )
    return units, bias, _ACTIVATIONS[name], residual


def _dense_config(
    inputs: int, units: int, bias: bool, act: str, residual: bool = False
) -> dict[str, Any]:
    name = next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == act)
    return {
        "in_features": inputs,
        "out_features": units,
        "bias": bias,
        "activation_function": f"torch.nn.modules.{'linear' if act == 'linear' else 'activation'}"
        f".{name}",
        **({"use_residual": True} if residual else {}),
    }


def _normalize(config: Keys, where: str) -> tuple[Any, ...]:
    _refuse_others({k: v for k, v in config.items() if k in _VECTOR}, _VECTOR, where)
    return ()


def _dropout(config: Keys, where: str) -> tuple[Any, ...]:
    _refuse_others(config, {"dropout": ...}, f"{where}/config.json")
    rate = _get(config, "dropout", (int, float), where, 0.2)
    if not 0 <= rate < 1:
        raise ConfigError(f"{where}/config.json: dropout is {rate}; a rate below 1 was expected.")
    return (float(rate),)


def _layer_norm(config: Keys, where: str) -> tuple[Any, ...]:
    _refuse_others(config, {"dimension": ...}, f"{where}/config.json")
    return ()


_READERS: dict[str, Callable[[Keys, str], tuple[Any, ...]]] = {
    "Dense": _dense,
    "Normalize": _normalize,
    "Dropout": _dropout,
    "LayerNorm": _layer_norm,
}
_WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "Dense": _dense_config,
    "Normalize": lambda inputs: {},
    "Dropout": lambda inputs, rate: {"dropout": rate},
    "LayerNorm": lambda inputs: {"dimension": inputs},
}

# ---------------------------------------------------------------- settings of the whole model


def _truncation(file: Read, origin: str) -> Fields:
    where = f"{origin}/{SETTINGS}"
    return {"truncate_dim": _size(_object(file, SETTINGS, origin), "truncate_dim", where)}


def _prompts(file: Read, origin: str) -> dict[str, Any]:
    """The prompts, the usual one, and how vectors are compared, as fields of `Sentences`."""
    stated, where = _object(file, SETTINGS, origin), f"{origin}/{SETTINGS}"
    prompts = {
        name: _get({name: text}, name, str, f"{where}: prompts", "")
        for name, text in _get(stated, "prompts", dict, where, {}).items()
    }
    usual = _get(stated, "default_prompt_name", str, where)
    if usual in _PROMPTS:
        prompts.setdefault(usual, "")
    if usual is not None and usual not in prompts:
        raise ConfigError(
            f"{where} has the default_prompt_name {usual!r}; its prompts are "
            f"{', '.join(prompts) or 'none'}.{did_you_mean(usual, prompts)}"
        )
    similarity = _get(stated, "similarity_fn_name", str, where)
    return {"prompts": prompts, "default_prompt": usual, "similarity": similarity}
