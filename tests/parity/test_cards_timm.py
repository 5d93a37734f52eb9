"""The registry's data against the installed timm, and configs that each reads from the other."""

import json
import sys
from dataclasses import make_dataclass, replace
from pathlib import Path

import pytest
from image_models import config_of
from kinds import FAMILIES
from reference import call_of, timm, torch
from timm.models import save_for_hf

from zoo.errors import ConfigError
from zoo.registry import registry
from zoo.registry.repo_config import card_from_config, config_from_card
from zoo.registry.timm_config import image_spec

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from cards.__main__ import files
from cards.arguments import Encoder
from cards.text import read
from cards.timm_models import encoder_of

MODULES = [module for family in FAMILIES.values() for module in family.timm]
FILES = {path.name: (path, text) for path, text in files().items()}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_what_make_cards_writes(name):
    path, text = FILES[name]
    assert text() == read(path)


@pytest.mark.parametrize("pattern", ["", "*50*", "resnet50", "*.a1_in1k", "*in1k", "se*x?26*"])
def test_listing_gives_what_timm_gives(pattern):
    theirs = timm.list_models(pattern, module=MODULES, pretrained=True)
    pickled = [n for n in theirs if not timm.get_pretrained_cfg(n).hf_hub_id]
    assert all(n.endswith("_ijepa") and registry.info(n).weights is None for n in pickled)
    theirs = [n for n in theirs if n not in pickled]
    ours = registry.list_models(
        pattern or None, family=[f.name for f in FAMILIES.values() if f.timm]
    )
    assert ours == sorted(theirs + [n for n in ours if registry.info(n).weights.bundled])


def test_default_tags_are_timms():
    for name in timm.list_models(module=MODULES):
        cfg = timm.get_pretrained_cfg(name)
        expected = f"{name}.{cfg.tag}" if cfg.has_weights else name
        assert registry.info(name).name == expected


@pytest.mark.parametrize("name", ["resnet50", "resnetv2_50"])
def test_our_configs_default_to_what_timms_classes_default_to(name):
    family, _ = config_of(name)
    defaults = encoder_of(family.name).standard(call_of(name).model)
    ours = {k: v for k, v in vars(family.config()).items() if k in defaults}
    assert ours == {k: tuple(v) if isinstance(v, list) else v for k, v in defaults.items()}


def test_a_module_that_no_family_builds_yet():
    assert Encoder("vgg", None).changed(call_of("vgg11_bn")) == {
        "cfg": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
        "norm_layer": "batchnorm2d",
    }


def test_an_argument_that_no_field_holds():
    config = make_dataclass("Config", [("cfg", tuple, ()), ("norm", str, "")])
    with pytest.raises(ConfigError, match=r"norm_layer=batchnorm2d.*Did you mean 'norm'"):
        Encoder("vgg", config).changed(call_of("vgg11_bn"))


def test_timm_builds_and_loads_from_a_config_that_zoo_wrote(tmp_path):
    model = timm.create_model("test_resnet", num_classes=4, in_chans=1)
    card = registry.info("test_resnet")
    changed = {**card.config, "num_classes": 4, "in_chans": 1}
    spec = image_spec({"input_size": [1, 64, 96]}, where="test")
    tuned = replace(card, config=changed, preprocessing=spec, labels=tuple("abcd"))
    config = config_from_card(tuned, num_features=model.num_features, classifier="fc")
    save_for_hf(model, tmp_path, safe_serialization=True)
    (tmp_path / "config.json").write_text(json.dumps(config))

    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert again.pretrained_cfg["input_size"] == (1, 64, 96)
    assert again.pretrained_cfg["label_names"] == list("abcd")
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    headless = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=9)
    assert headless.fc.out_features == 9


@pytest.mark.parametrize("arguments", [{}, {"num_classes": 7, "in_chans": 1}, {"num_classes": 0}])
def test_zoo_reads_the_config_that_timm_writes(tmp_path, arguments):
    model = timm.create_model("test_resnet", **arguments)
    names = [f"c{i}" for i in range(model.num_classes)] if arguments.get("num_classes") else None
    save_for_hf(model, tmp_path, model_config={"label_names": names}, safe_serialization=True)
    card = card_from_config(json.loads((tmp_path / "config.json").read_text()), origin="x")
    expected = registry.info("test_resnet")
    assert card.config == {**expected.config, "global_pool": "avg", **arguments}
    assert card.preprocessing.channels == arguments.get("in_chans", 3)
    assert card.preprocessing.crop_pct == expected.preprocessing.crop_pct
    assert card.license == expected.license
    assert card.labels == (tuple(names) if names else None if arguments else "imagenet-1k")
