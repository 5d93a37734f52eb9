"""What is frozen stays frozen, through every way that Keras has to copy, keep and nest a model."""

import copy
import pickle
import random

import keras
import numpy as np
import pytest

import zoo
from zoo.finetuning.optimizer import AdamW
from zoo.layers.building import named_weights

TEXT = {
    "vocab_size": 40,
    "max_positions": 32,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 40,
}
SMALL = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "num_classes": 4, "input_size": 32}
VIT = {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": (32, 32), "num_classes": 4}
NETWORKS = {
    "resnet": ("resnet18", SMALL | {"layers": (1, 2, 1, 1)}),
    "resnet, eca": ("resnet18", SMALL | {"attn_layer": "eca"}),
    "resnet, squeeze-excite": ("seresnet50", SMALL),
    "selective kernels": ("skresnet18", SMALL),
    "resnest": ("resnest14d", SMALL),
    "resnetv2": ("resnetv2_18", {"layers": (1, 1, 1, 1), "input_size": 32}),
    "vit": ("vit_tiny_patch16_224", VIT),
    "vit, attention pool": (
        "vit_tiny_patch16_224",
        VIT | {"global_pool": "map", "class_token": False},
    ),
    "vit, parallel": ("vit_tiny_patch16_224", VIT | {"block_fn": "parallel_scaling"}),
    "bert": ("bert", TEXT),
    "gpt2": ("gpt2", TEXT),
    "lstm": ("lstm_classifier", {"features": 3, "hidden_size": 8, "num_layers": 2}),
    "awd-lstm": ("awd_lstm", {"vocab_size": 20, "emb_sz": 6, "n_hid": 7, "tie_weights": False}),
    "silero": ("silero_vad", {}),
}


def load(network):
    name, options = NETWORKS[network]
    keras.utils.set_random_seed(0)
    return zoo.load(name, pretrained=False, **options)


# ---------------------------------------------------------------- what people freeze


def inner(model):
    """All layers inside of a model, those inside of layers too."""
    return list(model._flatten_layers(include_self=False))


def whole(model):
    model.trainable = False


def norms(model):
    for layer in inner(model):
        layer.trainable = "Norm" not in type(layer).__name__


def all_but_biases(model):
    for name, weight in named_weights(model).items():
        if weight.trainable:
            weight.trainable = "bias" in name or "beta" in name


def at_random(model):
    draw = random.Random(0)
    for part in [*inner(model), *(w for w in model.weights if w.trainable)]:
        part.trainable = draw.random() < 0.5


def at_random_under_a_frozen_top(model):
    model.trainable = False
    for layer in inner(model)[::3]:
        layer.trainable = True


FREEZES = {f.__name__: f for f in (whole, norms, all_but_biases, at_random)}
FREEZES["at_random_under_a_frozen_top"] = at_random_under_a_frozen_top


def learning(model):
    """Names of the weights that learn where the model is a part of another that does."""
    return {name for name, weight in named_weights(model).items() if weight.trainable}


def state(model):
    """Whether each layer with weights is trainable, and the names of the weights that are."""
    return [layer.trainable for layer in inner(model) if layer.weights], learning(model)


def values(model):
    return {name: np.array(weight) for name, weight in named_weights(model).items()}


# ---------------------------------------------------------------- every network


@pytest.mark.parametrize("network", NETWORKS)
def test_the_config_of_every_network_says_what_is_frozen(network):
    model = load(network)
    free = learning(model)
    for freeze in (whole, at_random, at_random_under_a_frozen_top):
        model.trainable = True
        assert learning(model) == free
        freeze(model)
        assert learning(model) < free
        again = zoo.Model.from_config(model.get_config())
        assert state(again) == state(model), freeze.__name__
        assert again.trainable == model.trainable
        assert len(again.trainable_variables) == len(model.trainable_variables)
        again.trainable = True
        assert learning(again) == free


@pytest.mark.parametrize("freeze", FREEZES.values(), ids=FREEZES)
@pytest.mark.parametrize("network", ["resnet", "vit"])
def test_a_clone_keeps_what_is_frozen_and_has_fresh_weights(network, freeze):
    model = load(network)
    freeze(model)
    clone = keras.models.clone_model(model)
    assert state(clone) == state(model)
    old, new = values(model), values(clone)
    assert any(not np.array_equal(old[name], new[name]) for name in old)


def test_a_clone_may_be_freed():
    def free(layer):
        new = type(layer).from_config(layer.get_config())
        new.trainable = True
        return new

    model = load("vit")
    everything = learning(model)
    at_random(model)
    assert learning(keras.models.clone_model(model, clone_function=free)) == everything


# ---------------------------------------------------------------- ways to keep a model


@keras.saving.register_keras_serializable("test_frozen")
class Subclassed(keras.Model):
    """As users write them: a backbone and a head."""

    def __init__(self, backbone, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.head = keras.layers.Dense(3, name="head")

    def build(self, input_shape):
        self.head.build(self.backbone.compute_output_shape(input_shape))

    def call(self, inputs):
        return self.head(self.backbone(inputs))

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return super().get_config() | {"backbone": backbone}

    @classmethod
    def from_config(cls, config):
        backbone = keras.saving.deserialize_keras_object(config.pop("backbone"))
        return cls(backbone, **config)


def functional(model):
    inputs = keras.Input((32, 32, 3))
    return keras.Model(inputs, keras.layers.Dense(3, name="head")(model(inputs, training=False)))


def subclassed(model):
    made = Subclassed(model)
    made.build((None, 32, 32, 3))
    return made


NESTS = {
    "alone": lambda model: model,
    "functional": functional,
    "sequential": lambda model: keras.Sequential(
        [keras.Input((32, 32, 3)), model, keras.layers.Dense(3, name="head")]
    ),
    "subclassed": subclassed,
    "cut": lambda model: keras.Model(model.input, model.layers[-2].output),
}
# the last one is of the formats before `.keras`, which Keras still writes with a warning in its log
FILES = {"keras": "model.keras", "h5": "model.h5"}


def copied(model, how, folder):
    if how == "pickle":
        return pickle.loads(pickle.dumps(model))
    if how == "deepcopy":
        return copy.deepcopy(model)
    model.save(folder / FILES[how])
    return keras.models.load_model(folder / FILES[how])


WAYS = [
    *((nest, at_random, "keras") for nest in NESTS),
    *(("functional", freeze, how) for freeze in (whole, at_random) for how in ("h5", "deepcopy")),
    ("alone", whole, "pickle"),
]


@pytest.mark.parametrize(("nest", "freeze", "how"), WAYS)
def test_every_way_to_keep_a_model_keeps_it_frozen(nest, freeze, how, tmp_path):
    model = load("vit")
    freeze(model)
    model = NESTS[nest](model)
    again = copied(model, how, tmp_path)
    assert state(again) == state(model)
    assert len(again.trainable_variables) == len(model.trainable_variables)
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_frozen_model_behaves_as_one_of_plain_layers(tmp_path):
    """How many weights learn, at each step of the usual recipe: all, the head's two, or none."""
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    plain = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))

    def course(base):
        base.trainable = False
        model = functional(base)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        clone = keras.models.clone_model(again)
        seen = [again.layers[1].trainable, clone.layers[1].trainable]
        seen += [len(m.trainable_variables) for m in (model, again, clone)]
        seen += [len(keras.models.clone_model(base).trainable_variables)]
        again.layers[1].trainable = True
        return [
            *seen,
            len(again.trainable_variables) == 2 + len(again.layers[1].weights) - 2 * bns(base),
        ]

    def bns(base):
        return sum("BatchNorm" in type(layer).__name__ for layer in [base, *inner(base)])

    assert course(load("resnet")) == course(plain) == [False, False, 2, 2, 2, 0, True]


# ---------------------------------------------------------------- training


def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 32, 32, 3)).astype("float32"), rng.integers(4, size=8)


def test_fit_after_a_reload_moves_what_is_free_alone(tmp_path):
    model = load("resnet")
    at_random(model)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.compile("sgd")
    again.fit(*batch(), verbose=0)
    old, new = values(model), values(again)
    moved = {name for name in old if not np.array_equal(old[name], new[name])}
    norms = [layer for layer in inner(again) if "BatchNorm" in type(layer).__name__]
    for frozen in (True, False):  # the statistics of a frozen norm stand still
        chosen = {w.path for norm in norms if norm.trainable != frozen for w in norm.weights}
        names = {n for n, w in named_weights(again).items() if "moving" in n and w.path in chosen}
        assert names
        assert names & moved == (set() if frozen else names)
        moved -= names
    assert moved
    assert moved <= learning(model)


@pytest.mark.parametrize(
    ("optimizer", "freeze"), [(AdamW, at_random), (keras.optimizers.Adam, whole)]
)
def test_the_optimizer_goes_on_where_it_was(freeze, optimizer, tmp_path):
    base = load("vit")
    freeze(base)
    model = functional(base)
    model.compile(optimizer(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = batch()
    model.fit(x, y % 3, verbose=0)
    model.save(tmp_path / "model.keras")
    states = []
    for going_on in (model, keras.models.load_model(tmp_path / "model.keras")):
        going_on.fit(x, y % 3, verbose=0)
        moments = [v for v in going_on.optimizer.variables if len(v.shape)]
        assert len(moments) == 2 * len(model.trainable_variables)
        states.append([*map(np.array, (*going_on.weights, *moments))])
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- configs of other times


def without_what_is_inside(config):
    if isinstance(config, dict):
        kept = {k: v for k, v in config.items() if k != "trainable_inside"}
        return {key: without_what_is_inside(value) for key, value in kept.items()}
    return [without_what_is_inside(v) for v in config] if isinstance(config, list) else config


def test_a_config_that_says_nothing_of_the_inside_is_read():
    model = load("vit")
    everything = learning(model)
    at_random(model)
    old = without_what_is_inside(model.get_config())
    assert old != model.get_config()
    again = zoo.Model.from_config(old)
    assert learning(again) < everything
    assert [layer.trainable for layer in again.layers[1:]] == [
        layer.trainable for layer in model.layers[1:]
    ]
    whole(model)
    assert learning(zoo.Model.from_config(without_what_is_inside(model.get_config()))) == set()
