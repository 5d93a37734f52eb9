"""`config.json` of repos and folders: read as a card, written from one."""

import json
from dataclasses import replace

import pytest

from zoo.errors import ConfigError
from zoo.preprocessing.spec import ImageSpec
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import labels
from zoo.registry.card import ModelCard
from zoo.registry.dialects import formats_of, transformers_dialects
from zoo.registry.registry import import_family, info, list_architectures, list_models
from zoo.registry.repo_config import (
    card_from_config,
    config_from_card,
    preprocessor_from_card,
    text_files,
)

SPEC = {
    "tag": "a1_in1k",
    "custom_load": False,
    "input_size": [3, 224, 256],
    "test_input_size": [3, 288, 320],
    "fixed_input_size": False,
    "interpolation": "bilinear",
    "crop_pct": 0.95,
    "test_crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "num_classes": 1000,
    "pool_size": [7, 7],
    "first_conv": "conv1",
    "classifier": "fc",
    "license": "apache-2.0",
    "origin_url": "https://example.org/model",
    "paper_ids": "arXiv:2110.00476",
}
CONFIG = {
    "architecture": "resnet50",
    "num_classes": 1000,
    "num_features": 2048,
    "global_pool": "avg",
    "pretrained_cfg": SPEC,
}
CARD = ModelCard(
    name="org/model",
    architecture="resnet50",
    family="resnet",
    config={"block": "bottleneck", "layers": [3, 4, 6, 3]},
    preprocessing=ImageSpec(
        input_size=(224, 256),
        test_input_size=(288, 320),
        interpolation="bilinear",
        crop_pct=0.95,
        test_crop_pct=1.0,
        crop_mode="squash",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
    labels="imagenet-1k",
    license="apache-2.0",
    num_params=25557032,
    paper_ids=("arXiv:2110.00476",),
    origin_url="https://example.org/model",
)


def read(config=CONFIG, **changes) -> ModelCard:
    return card_from_config({**config, **changes}, origin="org/model")


def flat(**changes) -> dict:
    """The older form: everything at the top."""
    return {"architecture": "resnet50", "num_features": 2048, **SPEC, **changes}


def test_the_config_gives_the_whole_card():
    assert read() == CARD


def test_the_older_flat_form_gives_the_same():
    assert read(flat()) == CARD


def test_missing_and_null_fields_are_timms_defaults():
    expected = ModelCard(
        name="org/model",
        architecture="resnet50",
        family="resnet",
        config=CARD.config,
        preprocessing=ImageSpec(),
        labels="imagenet-1k",
        num_params=CARD.num_params,
    )
    assert read({"architecture": "resnet50"}) == expected
    nothing = dict.fromkeys(SPEC)
    assert read({"architecture": "resnet50", "pretrained_cfg": nothing}) == expected


def test_classes_of_the_top_level_win_and_their_labels_come_along():
    card = read(
        num_classes=3,
        label_names=["c0", "c1", "c2"],
        label_descriptions={"c0": "a cat", "c2": "a dog"},
    )
    assert card.config["num_classes"] == 3
    assert card.labels == ("a cat", "c1", "a dog")
    assert card.num_params is None


def test_arguments_of_the_model_join_its_config():
    card = read(model_args={"num_classes": 5, "in_chans": 1, "global_pool": "max"})
    assert card.config == {**CARD.config, "num_classes": 5, "in_chans": 1, "global_pool": "max"}
    assert card.preprocessing.channels == 1
    assert card.preprocessing.mean == (0.5,)
    assert card.preprocessing.input_size == (224, 256)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ("a", "b")),
        ({"1": "b", "0": "a"}, ("a", "b")),
        ({"1": "b"}, ("0", "b")),
        (None, None),
    ],
)
@pytest.mark.parametrize("form", ["nested", "flat"])
def test_labels_come_as_list_or_by_index(form, names, expected):
    changes = {"num_classes": 2, "label_names": names}
    card = read(**changes) if form == "nested" else read(flat(**changes))
    assert card.labels == expected


def test_the_older_field_for_labels():
    assert read(flat(num_classes=2, labels=["a", "b"])).labels == ("a", "b")


def test_labels_that_do_not_fit_the_classes_are_left_out_with_a_warning():
    with pytest.warns(UserWarning, match="org/model/config.json names 3 labels for 2 classes"):
        card = read(num_classes=2, label_names={"2": "c"})
    assert card.labels is None


def test_synsets_of_a_known_set_are_that_set():
    assert read(label_names=list(labels.synsets("imagenet-1k"))).labels == "imagenet-1k"


def test_no_classes_means_features():
    card = read(num_classes=0)
    assert card.config["num_classes"] == 0
    assert (card.task, card.labels) == ("image-feature-extraction", None)


def test_a_deprecated_architecture_is_its_successor():
    assert read(architecture="tv_resnet50") == CARD


def test_an_unknown_field_of_pretrained_cfg_is_idle():
    card = read(pretrained_cfg={**SPEC, "crop_shape": 1}, adapters={})
    assert card == replace(CARD, idle=("adapters", "crop_shape"))
    assert read(flat(crop_shape=1)).idle == ("crop_shape",)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, "does not say which model it is: expected 'architecture' .* found nothing"),
        ({"arch": "resnet50"}, "found arch"),
        ([], "should hold an object; it holds a list"),
        ({"model_type": "bart"}, "model_type is 'bart', which zoo does not have"),
        ({"architecture": "resnt50"}, "no architecture 'resnt50'. Did you mean 'resnet50'"),
        ({"architecture": "resnet50.a1_in1k"}, "no architecture 'resnet50.a1_in1k'"),
        ({"architecture": None}, "no architecture 'None'"),
        (
            {**CONFIG, "num_classes": "ten"},
            "num_classes is 'ten'; expected a whole number, 0 or more",
        ),
        ({**CONFIG, "num_classes": -1}, "num_classes is -1; expected a whole number, 0 or more"),
        (flat(input_size=224), r"input_size is 224; expected \[a whole number, 1 to 4096, a whole"),
        (flat(input_size=[224, 224]), "input_size is"),
        (flat(input_size=[3, 0, 224]), "input_size is"),
        (flat(interpolation="bicubick"), "one of .* Did you mean 'bicubic'"),
        (flat(crop_mode="centre"), "crop_mode is 'centre'; expected one of center, squash, border"),
        (flat(label_offset=1), "label_offset 1"),
    ],
)
def test_a_bad_config_is_an_error_that_names_the_file(config, expected):
    with pytest.raises(ConfigError, match=expected) as raised:
        card_from_config(config, origin="org/model")
    assert "org/model/config.json" in str(raised.value)


DIALECTS = dict(transformers_dialects())


def complete(card: ModelCard) -> dict:
    """All fields of the config, with the defaults that the card leaves out."""
    if card.architecture not in DIALECTS:
        return {}
    family = import_family(card.family)
    return vars(family.read_config(card.config, origin=card.name))


def comparable(card: ModelCard) -> ModelCard:
    """Without what a config.json does not carry; that of a text model has no provenance at all."""
    card = replace(card, published={}, weights=None, num_params=None)
    if not isinstance(card.preprocessing, TextSpec):
        return card
    return replace(card, license=None, origin_url=None, config=complete(card))


@pytest.mark.parametrize("name", [*list_models(), *list_architectures()])
def test_every_card_survives_its_own_config(name):
    card = info(name)
    layout, _ = formats_of(card.family).of(card.architecture)
    fields = complete(card)
    config = json.loads(json.dumps(config_from_card(card, layout=layout, fields=fields)))
    beside = {"preprocessor_config.json": preprocessor_from_card(card, layout=layout)}
    texts = {file: json.dumps(data) for file, data in beside.items() if data is not None}
    if isinstance(card.preprocessing, TextSpec):
        texts |= text_files(card.preprocessing, fields)
    again = comparable(card_from_config(config, origin=card.name, file=texts.get))
    if card.weights is None:  # an untrained card has no labels, but a reader sees 1000 classes
        again = replace(again, labels=None)
    assert again == comparable(card)


def test_the_config_that_is_written():
    config = config_from_card(
        CARD, num_features=2048, first_conv="conv1", classifier="fc", label_names=None
    )
    expected = {k: v for k, v in SPEC.items() if k not in {"tag", "pool_size"}}
    assert config == {
        "architecture": "resnet50",
        "num_classes": 1000,
        "num_features": 2048,
        "pretrained_cfg": expected | {"paper_ids": ["arXiv:2110.00476"]},
    }
    assert config_from_card(info("resnet50"))["pretrained_cfg"]["tag"] == "a1_in1k"


def test_a_fine_tuned_model_survives():
    tuned = replace(
        CARD,
        config={**CARD.config, "num_classes": 2, "in_chans": 1, "drop_rate": 0.2},
        preprocessing=ImageSpec(channels=1, mean=(0.5,), std=(0.5,)),
        labels=("left", "right"),
    )
    config = config_from_card(tuned)
    assert config["model_args"] == {"in_chans": 1}
    assert config["label_names"] == ["left", "right"]
    kept = {k: v for k, v in tuned.config.items() if k != "drop_rate"}  # it acts in training alone
    assert read(config) == replace(tuned, config=kept, num_params=None)


def test_labels_that_the_class_count_does_not_tell_are_written_out():
    config = config_from_card(replace(CARD, config={**CARD.config, "num_classes": 21841}))
    assert len(config["label_names"]) == 1000
    named = config_from_card(CARD, label_names=["x"] * 1000)
    assert named["label_names"] == ["x"] * 1000


def test_what_the_layout_cannot_say_is_an_error():
    spec = replace(CARD.preprocessing, channel_order="bgr")
    with pytest.raises(ConfigError, match="no channel_order"):
        config_from_card(replace(CARD, preprocessing=spec))
