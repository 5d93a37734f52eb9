"""Training steps in float64, beside torch.optim.AdamW with timm's groups of layer decay."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from image_models import shake
from reference import relative_error, timm, torch
from sequence_models import Network
from timm.models._manipulate import group_parameters
from timm.optim import param_groups_layer_decay

import zoo
from zoo.finetuning.groups import layer_ids, optimizer_for
from zoo.layers.building import named_weights
from zoo.registry import registry

RATE = 2.0**-10  # Keras holds it in float32
WEIGHT_DECAY, LAYER_DECAY, SMOOTHING, STEPS = 0.05, 0.7, 0.1, 3
CLASSES = 5

IMAGES = {
    "resnet": ("resnet26d", (64, 96)),
    "squeeze-excite": ("test_resnet", (64, 64)),
    "resnetv2": ("resnetv2_18d", (64, 96)),
    "vit": ("test_vit", (160, 160)),
    "vit, map pool, no class token": ("test_vit3", (160, 160)),
    "deit, registers": ("deit_tiny_patch16_224", (224, 224)),
}


def exported(model, values):
    """Values by weight name as the tensors of the model's layout; gradients map as weights do."""
    family = registry.import_family(model.record.card.family)
    return family.formats.table(model.record.layout).export(values)


def soft_labels(count, rng):
    labels = rng.random((count, CLASSES)) ** 4
    return labels / labels.sum(-1, keepdims=True)


def torch_step(reference, optimizer, x, y):
    """One step; returns the gradients."""
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(reference(x), y, label_smoothing=SMOOTHING)
    loss.backward()
    optimizer.step()
    return {n: p.grad.numpy().copy() for n, p in reference.named_parameters()}


def our_step(model, optimizer, x, y):
    loss_of = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=SMOOTHING, dtype="float64"
    )
    weights = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = loss_of(y, model(x, training=True))
    gradients = tape.gradient(loss, [w.value for w in weights])
    optimizer.apply(gradients, weights)
    names = {id(w): name for name, w in named_weights(model).items()}
    held = {names[id(w)]: np.asarray(g) for w, g in zip(weights, gradients, strict=True)}
    rest = {k: np.zeros(w.shape) for k, w in named_weights(model).items() if k not in held}
    return exported(model, {**held, **rest})


def compare_steps(model, reference, optimizer, x, y, to_torch):
    """Gradients of each step and weights after it, to 1e-8, one by one and all together."""
    ours = optimizer_for(model, RATE, weight_decay=WEIGHT_DECAY, layer_decay=LAYER_DECAY)
    ours.build(model.trainable_variables)
    before = {n: p.detach().numpy().copy() for n, p in reference.named_parameters()}
    for _ in range(STEPS):
        theirs = torch_step(reference, optimizer, to_torch(x), torch.tensor(y))
        found = our_step(model, ours, tf.constant(x), tf.constant(y))
        scale = max(np.linalg.norm(g) for g in theirs.values())
        for name, gradient in theirs.items():
            if np.linalg.norm(gradient) > 1e-9 * scale:  # biases before a norm have none
                assert relative_error(found[name], gradient) < 1e-8, name
        weights = exported(model, {k: np.asarray(v) for k, v in named_weights(model).items()})
        moved = {n: p.detach().numpy() for n, p in reference.named_parameters()}
        real = [n for n in moved if np.linalg.norm(theirs[n]) > 1e-9 * scale]
        for name in real:
            assert relative_error(weights[name], moved[name]) < 1e-8, name
        # what the steps changed, and not the weights that they hardly changed
        changes = [np.concatenate([(part[n] - before[n]).ravel() for n in real])
                   for part in (weights, moved)]  # fmt: skip
        assert relative_error(*changes) < 1e-6


@pytest.mark.parametrize("kind", IMAGES)
def test_steps_of_image_models_equal_torchs(kind, tmp_path):
    name, size = IMAGES[kind]
    torch.manual_seed(0)
    reference = timm.create_model(name, num_classes=CLASSES)
    shake(reference)
    reference = reference.double()
    timm.models.save_for_hf(reference, tmp_path, safe_serialization=True)
    model = zoo.load(tmp_path, dtype="float64", drop_rate=0.0)
    groups = param_groups_layer_decay(
        reference,
        weight_decay=WEIGHT_DECAY,
        no_weight_decay_list=getattr(reference, "no_weight_decay", set)(),
        layer_decay=LAYER_DECAY,
    )
    for group in groups:
        group["lr"] = RATE * group["lr_scale"]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, *size, 3)), soft_labels(4, rng)
    state = {k: v.numpy().copy() for k, v in reference.state_dict().items()}
    counts = counted(reference)
    compare_steps(
        model,
        reference.train(),
        torch.optim.AdamW(groups, lr=RATE),
        x,
        y,
        lambda x: torch.tensor(x).permute(0, 3, 1, 2),
    )
    check_statistics(model, reference, state, counts)


def counted(reference):
    """How many values each batch norm takes its statistics over, by name, once it has run."""
    counts = {}

    def hook(name):
        return lambda module, args: counts.update({name: args[0].numel() // args[0].shape[1]})

    for name, module in reference.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(hook(name))
    return counts


def check_statistics(model, reference, before, counts):
    """Running means are torch's; of variances ours take n values, torch's n - 1 (decision 13)."""
    after = exported(model, {k: np.asarray(v) for k, v in named_weights(model).items()})
    kept = 0.9**STEPS
    for name, count in counts.items():
        key = f"{name}.running_mean"
        assert relative_error(after[key], reference.state_dict()[key]) < 1e-8
        key = f"{name}.running_var"
        theirs = reference.state_dict()[key].numpy() - kept * before[key]
        ours = after[key] - kept * before[key]
        assert relative_error(ours, theirs * (count - 1) / count) < 1e-8


@pytest.mark.parametrize("bidirectional", [False, True])
def test_steps_of_an_lstm_equal_torchs(bidirectional):
    model = zoo.load(
        "lstm_classifier",
        pretrained=False,
        dtype="float64",
        features=6,
        hidden_size=16,
        num_layers=3,
        bidirectional=bidirectional,
        num_classes=CLASSES,
    )
    family, config = registry.import_family("lstm"), model.record.card.config
    torch.manual_seed(0)
    reference = Network(family.read_config(config, origin="test")).double()
    held = exported(model, {k: np.asarray(v) for k, v in named_weights(model).items()})
    reference.load_state_dict({k: torch.tensor(v) for k, v in held.items()})
    groups = []
    for name, parameter in reference.named_parameters():
        depth = int(name.partition("_l")[2][0]) if name.startswith("rnn") else 3
        decay = WEIGHT_DECAY if parameter.ndim > 1 else 0.0
        rate = RATE * LAYER_DECAY ** (3 - depth)
        groups.append({"params": [parameter], "weight_decay": decay, "lr": rate})
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 12, 6)), soft_labels(4, rng)
    optimizer = torch.optim.AdamW(groups, lr=RATE)
    whole = functools.partial(reference, lengths=[12] * 4)
    whole.named_parameters = reference.named_parameters
    compare_steps(model, whole, optimizer, x, y, torch.tensor)


NUMBERED = (
    "resnet50d",
    "skresnet18",
    "resnest14d",
    "resnetv2_50t",
    "resnetv2_50x1_bit",
    "vit_tiny_patch16_224",
    "vit_base_patch16_siglip_224",
    "vit_base_patch16_clip_224",
    "vit_small_patch14_reg4_dinov2",
    "deit_tiny_distilled_patch16_224",
    "deit3_small_patch16_224",
)


@pytest.mark.parametrize("name", NUMBERED)
def test_layers_are_counted_as_timm_counts_them(name):
    with torch.device("meta"):
        reference = timm.create_model(name)
    theirs = group_parameters(reference, reference.group_matcher(coarse=False), reverse=True)
    model = zoo.load(name, pretrained=False)
    numbered = {
        k: np.full(w.shape, float(layer_ids(model)[k])) for k, w in named_weights(model).items()
    }
    ours = {k: set(np.unique(v)) for k, v in exported(model, numbered).items()}
    for parameter, _ in reference.named_parameters():
        assert ours[parameter] == {theirs[parameter]}, parameter
