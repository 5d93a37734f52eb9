"""Dialects: each fact read and written, by the reader and the writer that serve all of them."""

import dataclasses
import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from zoo.errors import ConfigError
from zoo.registry import registry, transformers_config
from zoo.registry.config_keys import Choice, Key
from zoo.registry.dialects import formats_of, transformers_dialects

DIALECTS = dict(transformers_dialects())
CLASSES = [(name, one) for name, dialect in DIALECTS.items() for one in dialect.classes]
NAMES = {"gelu": "relu", "gelu_new": "tanh", "quick_gelu": "silu", "gelu_pytorch_tanh": "gelu"}


def another(key: Key | Choice, default):
    """A value of the key that is not its default."""
    if isinstance(key, Choice):
        return next(value for value in key.fields_of if value != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return 2 * default or type(default)(1)
    texts = NAMES | {"tanh": "relu", None: {"problem_type": "regression"}.get(key.name, 3)}
    return texts[default]


def configs(model_type: str, class_name: str):
    """Configs of a class with one key each that has another value than its default."""
    dialect = DIALECTS[model_type]
    one = dialect.classes[class_name]
    base = {key: value for key, (value, _) in one.needs.items()}
    usual = dialect.filled(base)
    for key in dialect.keys:
        value = another(key, usual[key.name])
        if key.name in base or (isinstance(key, Key) and not key.fields):
            continue
        try:
            told = key.read({**usual, key.name: value}) != key.read(usual)
        except ConfigError:
            continue  # a key that has one value in all networks
        if told and not set(key.read(usual)) & {*dialect.fields, *one.fields}:
            yield {**base, key.name: value}


@pytest.mark.parametrize(("model_type", "class_name"), CLASSES)
def test_configs_are_read_and_written(model_type, class_name):
    dialect, seen = DIALECTS[model_type], 0
    one = dialect.classes[class_name]
    whole = one.whole
    for changed in configs(model_type, class_name):
        file = {"architectures": [class_name], "model_type": model_type, **changed}
        if whole is not None:
            own = {"model_type": model_type, **changed}
            file = {"architectures": [class_name], "model_type": whole, "vision_config": own}
        found = transformers_config.read(file, where="config.json")
        defaults = defaults_of(model_type)
        assert set(found.fields) <= set(defaults)
        config = {**defaults, **found.fields}
        written = json.loads(json.dumps(transformers_config.write(model_type, config)))
        inner = {**written, **written.get("vision_config", {})}
        usual = dialect.filled(changed)
        stated = dialect.filled(inner)
        for key in dialect.keys:
            if not {*one.fields} & {*key.read(usual)}:  # what the class says whatever the key does
                assert stated[key.name] == usual[key.name], (changed, key)
        assert {**inner, **changed} == inner, "a key that is not the default is written"
        again = transformers_config.read(written, where="config.json")
        assert again.fields == found.fields
        assert written == json.loads(json.dumps(transformers_config.write(model_type, config)))
        seen += 1
    assert seen > 5


def defaults_of(model_type: str) -> dict:
    family = registry.import_family(registry.architecture_card(model_type).family)
    return {f.name: f.default for f in dataclasses.fields(family.config)}


@pytest.mark.parametrize("family", registry.families())
def test_layouts_are_told_apart(family):
    formats = formats_of(family)
    assert formats.usual in formats.dialects
    for layout in formats.layouts():
        assert formats.table(layout).rows
    with pytest.raises(Exception, match="no layout"):
        formats.table("nonsense.bare")


def test_an_unknown_type_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"model_type is 'robberta'.*Did you mean 'roberta'"):
        transformers_config.read({"model_type": "robberta"}, where="config.json")


# ---------------------------------------------------------------- another package's type

ACME = {
    "family": "acme",
    "module": "acme_zoo.network",
    "formats": "acme_zoo.formats",
    "architectures": {
        "acme_bert": {
            "config": {"hidden_size": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 60}
            | {"intermediate_size": 40, "max_positions": 16},
            "task": "feature-extraction",
            "preprocessing": {"kind": "text", "vocab_size": 60, "max_length": 16, "special": {}}
            | {"inputs": ["input_ids", "attention_mask"]},
        }
    },
    "cards": {},
}
FORMATS = """
from zoo.formats.bert import BERT
from zoo.formats.text import classes
from zoo.registry.dialect import Formats, Key
from zoo.weights.mapping import WeightMap

ACME = BERT.but(
    library="acme 1.0",
    prefix="acme.",
    weights=BERT.weights.renamed(lambda name: name.replace("encoder.layer", "body.block")),
    keys=(Key("width", "hidden_size", 24),),
    classes=classes("Acme"),
)
FORMATS = Formats(dialects={"acme_bert": ACME})
"""
NETWORK = """
import dataclasses
from acme_zoo.formats import FORMATS
from zoo.architectures import bert

FAMILY = dataclasses.replace(bert.FAMILY, name="acme", formats=FORMATS)
"""
PROGRAM = """
import json, sys, warnings
from pathlib import Path
sys.path.insert(0, {site!r})
import numpy as np
import zoo
from zoo.registry import registry

folder = Path({folder!r})
assert "acme_zoo.formats" not in sys.modules
model = zoo.load("acme_bert", pretrained=False, task="text-classification", labels=["a", "b"])
zoo.save(model, folder)
config = json.loads((folder / "config.json").read_text())
print(config["architectures"], config["model_type"], config["width"])
again = zoo.load(folder)
ids = dict(input_ids=np.array([[3, 4, 5, 0]]), attention_mask=np.array([[1, 1, 1, 0]]))
print(float(abs(np.asarray(again(ids)) - np.asarray(model(ids))).max()), again.labels)
from safetensors import safe_open
with safe_open(folder / "model.safetensors", "np") as file:
    names = sorted(file.keys())
print(names[0], sum("body.block" in name for name in names))
(folder / "config.json").write_text(json.dumps(config | {{"colour": "red"}}))
try:
    zoo.load(folder)
except zoo.errors.ConfigError as error:
    print("colour" in str(error), "idle" in str(error))
"""


def test_an_installed_package_adds_a_model_type(tmp_path):
    wheel, site = tmp_path / "acme_zoo-1.0-py3-none-any.whl", tmp_path / "site"
    about = "acme_zoo-1.0.dist-info"
    files = {
        "acme_zoo/__init__.py": "",
        "acme_zoo/cards.json": json.dumps(ACME),
        "acme_zoo/formats.py": FORMATS,
        "acme_zoo/network.py": NETWORK,
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: acme_zoo\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[zoo.families]\nacme = acme_zoo\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, capture_output=True)
    program = textwrap.dedent(PROGRAM).format(site=str(site), folder=str(tmp_path / "saved"))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines() == [
        "['AcmeForSequenceClassification'] acme_bert 24",
        "0.0 ('a', 'b')",
        "acme.body.block.0.attention.output.LayerNorm.bias 32",
        "True True",
    ]
    assert Path(tmp_path / "saved").is_dir()
