"""Where networks look: attention maps, rollout and Grad-CAM against computations of their own."""

import functools
import gc
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import zoo
from zoo.errors import InputError, OptionError, TaskError
from zoo.layers.building import named_weights
from zoo.preprocessing.image import ImagePreprocessor
from zoo.preprocessing.spec import ImageSpec
from zoo.tasks import explaining, graphs
from zoo.tasks.explaining import AttentionMaps, Explanation, class_index, seen_box

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import train_digits

PHOTOS = load_sample_images().images  # uint8 [427, 640, 3]


@functools.cache
def shaken(name, **options):
    """A network with random weights, large enough that attention is far from even.

    One for all tests that look at it, with its compiled functions.
    """
    keras.utils.set_random_seed(5)
    model = zoo.load(name, pretrained=False, **options)
    for path, weight in named_weights(model).items():
        if path.endswith(("qkv.kernel", "in_proj.kernel", "attn_pool.kv.kernel")):
            weight.assign(8 * weight)
        if path.endswith("latent"):
            weight.assign(np.random.default_rng(5).normal(size=weight.shape))
    return model


def outputs_of(model, layer, inputs):
    """What a layer of the model gives for a batch."""
    part = keras.Model(model.inputs[0], model.get_layer(layer).output)
    return part(keras.ops.convert_to_tensor(inputs), training=False)


VITS = {  # what a vector is read out of
    "class token": ("vit_tiny_patch16_224", {"img_size": (48, 64)}),
    "with a rest": ("vit_tiny_patch16_224", {"img_size": (50, 70)}),
    "filled up": ("vit_tiny_patch16_224", {"img_size": (50, 70), "dynamic_img_pad": True}),
    "mean": ("vit_wee_patch16_reg1_gap_256", {"img_size": (48, 64)}),
    "attention": ("test_vit3", {"img_size": (48, 64)}),
    "patches alone": ("test_vit3", {"img_size": (48, 64), "pool_include_prefix": False}),
    "parallel": ("vit_pwee_patch16_reg1_gap_256", {"img_size": (48, 64)}),
    "side by side": ("vit_tiny_patch16_224", {"img_size": (48, 64), "block_fn": "parallel_things"}),
    "two tokens": ("deit_tiny_distilled_patch16_224", {"img_size": (48, 64)}),
    "both": ("vit_tiny_patch16_224", {"img_size": (48, 64), "global_pool": "cat_token_avg"}),
    "no classes": ("vit_tiny_patch16_224", {"img_size": (48, 64), "num_classes": 0}),
}


@pytest.fixture(scope="module", params=VITS.items(), ids=VITS)
def vit(request):
    kind, (name, options) = request.param
    model = shaken(name, depth=2, **options)
    return kind, model


# ---------------------------------------------------------------- attention maps


def test_maps_are_weights_of_every_layer(vit):
    kind, model = vit
    found = model.attention_maps(PHOTOS)
    assert isinstance(found, AttentionMaps)
    assert found.grid == ((4, 5) if kind == "filled up" else (3, 4))
    tokens = found.prefix + found.grid[0] * found.grid[1]
    last = {"attention": tokens, "patches alone": tokens - 1}.get(kind)
    blocks = 4 if kind == "side by side" else 2
    heads = model.get_layer("blocks.0").config.num_heads
    expected = [(2, heads, tokens, tokens)] * blocks + [(2, heads, 1, last)] * (last is not None)
    assert [m.shape for m in found.maps] == expected
    for weights in found.maps:
        assert weights.dtype == np.float32
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
        assert weights.std() * weights.shape[-1] > 0.1  # not even: there is something to compare


def test_maps_are_the_softmax_of_queries_and_keys():
    model = shaken("vit_tiny_patch16_224", depth=2, img_size=(48, 64))
    weights = {k: np.asarray(v, np.float64) for k, v in named_weights(model).items()}
    tokens = np.asarray(outputs_of(model, "embeddings", model.preprocess(PHOTOS)), np.float64)
    centred = tokens - tokens.mean(-1, keepdims=True)
    normed = centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-6)
    normed = normed * weights["blocks.0.norm1.gamma"] + weights["blocks.0.norm1.beta"]
    qkv = normed @ weights["blocks.0.attn.qkv.kernel"] + weights["blocks.0.attn.qkv.bias"]
    query, key, _ = np.moveaxis(qkv.reshape(2, 13, 3, 3, 64), 2, 0)
    logits = np.einsum("nthd,nshd->nhts", query, key) / np.sqrt(64)
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(model.attention_maps(PHOTOS).maps[0], expected, atol=1e-5)


def test_maps_in_batches_and_of_nothing():
    model = shaken("vit_tiny_patch16_224", depth=2, img_size=(48, 64))
    whole, cut = model.attention_maps(PHOTOS), model.attention_maps(PHOTOS, batch_size=1)
    for one, other in zip(whole.maps, cut.maps, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert [m.shape for m in model.attention_maps([]).maps] == [(0, 3, 13, 13)] * 2


def test_maps_of_differential_attention_and_of_features():
    options = {"depth": 2, "img_size": (48, 64)}
    model = zoo.load("vit_dwee_patch16_reg1_gap_256", pretrained=False, **options)
    assert [m.shape for m in model.attention_maps(PHOTOS).maps] == [(2, 4, 13, 13)] * 4
    with pytest.raises(TaskError, match=r"differential .* attention_maps\(\) gives both"):
        model.explain(PHOTOS)
    model = zoo.load(
        "vit_tiny_patch16_224", pretrained=False, features_only=True, out_indices=[1], **options
    )
    assert [m.shape for m in model.attention_maps(PHOTOS).maps] == [(2, 3, 13, 13)] * 2


# ---------------------------------------------------------------- attention rollout


def rolled_out(kind, found):
    """Rollout as the paper has it, with whole matrices, in float64: `[n, rows, columns]`."""
    maps = [m.astype(np.float64).mean(1) for m in found.maps]
    pooled = maps.pop()[:, 0] if kind in ("attention", "patches alone") else None
    if kind == "side by side":
        maps = [a + b for a, b in zip(maps[::2], maps[1::2], strict=True)]
    product = np.eye(maps[0].shape[-1])
    for weights in maps:
        mixed = weights + np.eye(weights.shape[-1])
        product = mixed / mixed.sum(-1, keepdims=True) @ product
    rows = {
        "attention": lambda: np.einsum("nt,nts->ns", pooled, product),
        "patches alone": lambda: np.einsum("nt,nts->ns", pooled, product[:, 1:]),
        "mean": lambda: product[:, found.prefix :].mean(1),
        "parallel": lambda: product[:, found.prefix :].mean(1),
        "two tokens": lambda: product[:, :2].mean(1),
        "both": lambda: (product[:, 0] + product[:, 1:].mean(1)) / 2,
    }.get(kind, lambda: product[:, 0])()
    return rows[:, found.prefix :].reshape(-1, *found.grid)


def test_rollout_is_the_product_of_the_maps(vit):
    kind, model = vit
    expected = rolled_out(kind, model.attention_maps(PHOTOS))
    for explanation, heat in zip(model.explain(PHOTOS), expected, strict=True):
        assert explanation.method == "attention-rollout"
        height, width = model.preprocess.spec.input_size
        edges = tuple(16 * edge for edge in heat.shape[::-1])
        image = Image.fromarray(heat.astype(np.float32)).resize(edges, Image.Resampling.BICUBIC)
        enlarged = np.asarray(image)[:height, :width]
        rest = [(0, height - enlarged.shape[0]), (0, width - enlarged.shape[1])]
        enlarged = np.pad(enlarged, rest, mode="edge")
        enlarged = (enlarged - enlarged.min()) / np.ptp(enlarged)
        np.testing.assert_allclose(explanation.heatmap, enlarged, atol=1e-4)


def test_rollout_names_the_best_class():
    model = shaken("vit_tiny_patch16_224", depth=2, img_size=(48, 64))
    for explanation, (best,) in zip(model.explain(PHOTOS), model.classify(PHOTOS, 1), strict=True):
        assert (explanation.label, explanation.index) == (best.label, best.index)
        assert explanation.score == pytest.approx(best.score, rel=1e-4)


def test_heat_lies_where_its_patch_is():
    heat = np.zeros((3, 4), np.float32)
    heat[2, 1] = 1
    enlarged = explaining._enlarged(heat, (48, 64), (50, 70))
    assert enlarged.shape == (50, 70)
    y, x = np.unravel_index(enlarged.argmax(), enlarged.shape)
    assert y >= 32
    assert 16 <= x < 32
    assert abs(enlarged[:, 56:]).max() == 0


# ---------------------------------------------------------------- Grad-CAM


CONVOLUTIONAL = {  # architecture: edge of the image, layer whose map is explained, blocks
    "test_resnet": (160, "layer4.0", {}),
    "resnet_mini.digits": (32, "layer2.0", {}),
    "resnetv2_50": (64, "stages.2.blocks.1", {"layers": (1, 1, 2, 1)}),
    "skresnet18": (64, "layer3.1", {"layers": (1, 1, 2, 1)}),
    "resnest14d": (64, "layer3.0", {}),
}


def brightest(heat, edge=160):
    """Heat `[h, w]` above zero, enlarged, with 1 as the greatest if there is any."""
    heat = np.maximum(heat, 0)
    image = Image.fromarray(heat.astype(np.float32)).resize((edge, edge), Image.Resampling.BICUBIC)
    pixels = np.maximum(np.asarray(image), 0)
    return pixels / (pixels.max() or 1)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_grad_cam_is_the_papers(name):
    import tensorflow as tf

    edge, layer, blocks = CONVOLUTIONAL[name]
    keras.utils.set_random_seed(5)
    model = zoo.load(name, pretrained=name.endswith("digits"), input_size=edge, **blocks)
    after = model.layers[model.layers.index(model.get_layer(layer)) + 1 :]
    features = outputs_of(model, layer, model.preprocess(PHOTOS))
    targets, greatest = range(3, 7), []
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        x = features
        for step in after:
            x = step(x, training=False)
        logits = [tf.reduce_sum(x[:, target]) for target in targets]
    probabilities = np.asarray(tf.nn.softmax(x))
    for target, logit in zip(targets, logits, strict=True):
        alpha = np.asarray(tape.gradient(logit, features)).mean((1, 2), keepdims=True)
        heat = (np.asarray(features) * alpha).sum(-1)
        for i, explanation in enumerate(model.explain(PHOTOS, target=target)):
            expected = brightest(heat[i], edge)
            greatest.append(expected.max())
            np.testing.assert_allclose(explanation.heatmap, expected, atol=1e-3)
            assert (explanation.method, explanation.index) == ("grad-cam", target)
            assert explanation.score == pytest.approx(probabilities[i, target], rel=1e-4)
    assert max(greatest) == 1  # nothing speaks for some classes of random networks


def coarse(model):
    """The last map `[n, h, w, c]`."""
    return np.asarray(outputs_of(model, "layer4.0", model.preprocess(PHOTOS)))


def test_under_mean_pooling_it_is_the_map_of_the_classifiers_weights():
    """Zhou et al., arXiv:1512.04150, which needs no gradient."""
    keras.utils.set_random_seed(5)
    model = zoo.load("test_resnet", pretrained=False)
    kernel, features = np.asarray(model.get_layer("fc").kernel), coarse(model)
    best = [row[0].index for row in model.classify(PHOTOS, 1)]
    for i, explanation in enumerate(model.explain(PHOTOS)):
        assert explanation.index == best[i]
        expected = brightest(features[i] @ kernel[:, best[i]])
        np.testing.assert_allclose(explanation.heatmap, expected, atol=1e-3)


def test_without_classes_it_is_the_likeness_to_the_embedding():
    keras.utils.set_random_seed(5)
    model = zoo.load("test_resnet", pretrained=False, num_classes=0)
    features = coarse(model)
    for i, explanation in enumerate(model.explain(PHOTOS)):
        expected = brightest(features[i] @ features[i].mean((0, 1)))
        np.testing.assert_allclose(explanation.heatmap, expected, atol=1e-3)
        assert (explanation.label, explanation.index, explanation.score) == (None, None, None)
    with pytest.raises(OptionError, match="has no classes"):
        model.explain(PHOTOS, target=1)


@pytest.fixture(scope="module")
def samples():
    """40 digits, uint8 `[8, 8]`, that the bundled models were not trained on."""
    return [np.asarray(Image.open(path)) for path in sorted(train_digits.SAMPLES.glob("*.png"))]


TRAINED = ["resnet_mini.digits", "vit_mini.digits"]


@pytest.mark.parametrize("name", TRAINED)
def test_the_digits_hang_on_what_is_hot(samples, name):
    """Without the hottest quarter of an image its class loses more than without the coldest."""
    model, images = zoo.load(name), samples
    found = model.explain(images)
    classes = [row[0].index for row in model.classify(images, 1)]
    assert [e.index for e in found] == classes
    assert [e.label for e in found] == [str(index) for index in classes]
    inputs = model.preprocess(images).reshape(len(images), -1)
    order = np.argsort(np.stack([e.heatmap.ravel() for e in found]), axis=1, kind="stable")

    quarter = order.shape[1] // 4

    def logits(pixels):
        outputs = model(pixels.reshape(len(images), *model.preprocess.spec.input_size, 1))
        return np.asarray(outputs)[np.arange(len(images)), classes]

    def lost_without(places):
        pixels = inputs.copy()
        np.put_along_axis(pixels, places, inputs.min(), axis=1)
        return (logits(inputs) - logits(pixels)).mean()

    hot, cold = lost_without(order[:, -quarter:]), lost_without(order[:, :quarter])
    assert hot > max(2 * cold, 2)


@pytest.mark.parametrize("name", TRAINED)
def test_digits_are_hotter_on_ink(samples, name):
    model, images = zoo.load(name), samples
    heat = np.stack([e.heatmap for e in model.explain(images)])
    ink = model.preprocess(images)[..., 0] > 0
    assert heat[ink].mean() > 1.1 * heat[~ink].mean()


def test_a_target_by_any_of_its_names(samples):
    model, images = zoo.load("resnet_mini.digits"), samples
    three, eight = model.explain(images[:2], target=3), model.explain(images[:2], target="8")
    assert [e.label for e in (*three, *eight)] == ["3", "3", "8", "8"]
    assert not np.allclose(three[0].heatmap, eight[0].heatmap, atol=0.1)
    labels = ["tabby, tabby cat", "crane", "Crane", "crane, machine"]
    assert class_index("Tabby CAT", labels, 4) == class_index(np.int64(0), labels, 4) == 0
    assert class_index("crane", labels, 4) == 1
    assert class_index("machine", labels, 4) == 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (10, "target=10; the classes are 0 to 9"),
        (-1, "target=-1; the classes are 0 to 9"),
        ("ten", "target='ten' is no label of the model's 10 classes"),
        (1.0, "target=1.0 is neither the index nor the label"),
    ],
)
def test_targets_that_are_none(target, message):
    with pytest.raises(OptionError, match=message):
        zoo.load("resnet_mini.digits").explain([], target=target)


def test_labels_that_tell_no_class():
    with pytest.raises(OptionError, match="is the name of 2 classes, 0, 2: give the index"):
        class_index("crane", ["crane, bird", "owl", "crane, machine"], 3)
    with pytest.raises(OptionError, match="Did you mean 'owl'"):
        class_index("owls", ["crane", "owl"], 2)
    with pytest.raises(OptionError, match=r"labels are not known. Give the index"):
        class_index("owl", None, 2)


def test_a_model_without_labels():
    model = zoo.load("test_resnet", pretrained=False, num_classes=7)
    (found,) = model.explain(PHOTOS[0], target=6)
    assert (found.label, found.index) == (None, 6)
    assert 0 < found.score < 1


# ---------------------------------------------------------------- both


SMALL = {"test_resnet": {}, "test_vit": {"depth": 2}}


@pytest.mark.parametrize("name", SMALL)
def test_each_image_is_explained_alone(name):
    model = shaken(name, **SMALL[name])
    whole = model.explain([*PHOTOS, PHOTOS[0]], batch_size=2)
    (alone,) = model.explain(Image.fromarray(PHOTOS[0]))
    assert len(whole) == 3
    for explanation in (*whole, alone):
        assert isinstance(explanation, Explanation)
        heat = explanation.heatmap
        assert (heat.shape, heat.dtype) == ((160, 160), np.float32)
        assert 0 <= heat.min() < heat.max() == 1
    for other in (whole[2], alone):
        np.testing.assert_allclose(whole[0].heatmap, other.heatmap, atol=1e-4)
        assert whole[0].score == pytest.approx(other.score, rel=1e-4)
    assert not np.allclose(whole[0].heatmap, whole[1].heatmap, atol=0.1)
    assert model.explain([]) == []


@pytest.mark.parametrize("name", SMALL)
def test_low_precision_gives_about_the_same_in_float32(name):
    exact = shaken(name, **SMALL[name])
    low = zoo.load(name, pretrained=False, dtype="bfloat16", **SMALL[name])
    low.set_weights(exact.get_weights())
    best = exact.classify(PHOTOS[:1], 1)[0][0].index
    target = best if name == "test_resnet" else None
    for one, other in zip(
        exact.explain(PHOTOS, target=target), low.explain(PHOTOS, target=target), strict=True
    ):
        assert other.heatmap.dtype == np.float32
        assert np.corrcoef(one.heatmap.ravel(), other.heatmap.ravel())[0, 1] > 0.95
    if name == "test_vit":
        assert {m.dtype for m in low.attention_maps(PHOTOS).maps} == {np.dtype(np.float32)}


def test_functions_are_traced_once_and_do_not_keep_the_model():
    model = zoo.load("test_resnet", pretrained=False)
    for target in (None, 1, 2):
        model.explain(PHOTOS, target=target)
    functions = graphs._GRAPHS[model]
    assert {k: f.experimental_get_tracing_count() for k, f in functions.items()} == {"grad-cam": 1}
    gone = weakref.ref(model)
    del model, functions
    gc.collect()
    assert gone() is None


def test_methods_that_do_not_suit():
    resnet = zoo.load("test_resnet", pretrained=False)
    vit = zoo.load("test_vit", pretrained=False, depth=1)
    with pytest.raises(TaskError, match="has no attention, so there are no maps of it"):
        resnet.attention_maps(PHOTOS)
    with pytest.raises(OptionError, match=r"is not for 'test_resnet.*'; 'grad-cam' is"):
        resnet.explain(PHOTOS, "attention-rollout")
    with pytest.raises(OptionError, match=r"is not for 'test_vit.*'; 'attention-rollout' is"):
        vit.explain(PHOTOS, "grad-cam")
    with pytest.raises(OptionError, match=r"is not known.* Did you mean 'grad-cam'"):
        resnet.explain(PHOTOS, method="gradcam")
    with pytest.raises(OptionError, match="is the same for every class"):
        vit.explain(PHOTOS, target=3)
    maps = zoo.load("test_resnet", pretrained=False, features_only=True)
    with pytest.raises(TaskError, match="gives maps, of which nothing is read out"):
        maps.explain(PHOTOS)
    with pytest.raises(InputError, match="float64 array"):
        vit.explain(PHOTOS[0] / 255)
    with pytest.raises(TaskError, match="has no verb 'explain'"):
        zoo.load("lstm_mini.digits").explain(PHOTOS)


# ---------------------------------------------------------------- geometry


SPECS = {
    "center": {"input_size": (64, 64), "crop_pct": 0.875},
    "upright": {"input_size": (96, 64), "crop_pct": 0.9},
    "squash": {"input_size": (64, 64), "crop_pct": 0.8, "crop_mode": "squash"},
    "border": {"input_size": (64, 64), "crop_pct": 1.0, "crop_mode": "border"},
    "own size": {"input_size": (64, 64), "crop_pct": 1.0, "resize": False},
}


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(("width", "height"), [(301, 200), (150, 233)])
def test_the_box_is_what_preprocessing_takes(kind, width, height):
    """Of a picture whose red and green say where each pixel is."""
    spec = ImageSpec(**SPECS[kind], mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="bilinear")
    x, y = (np.arange(edge) + 0.5 for edge in (width, height))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.round(255 * x / width)
    picture[..., 1] = np.round(255 * y / height)[:, None]
    seen = ImagePreprocessor(replace(spec))(picture)[0]
    left, top, right, bottom = seen_box(spec, width, height)
    rows, columns = spec.input_size
    across = left + (np.arange(columns) + 0.5) * (right - left) / columns
    down = top + (np.arange(rows) + 0.5) * (bottom - top) / rows
    # the outermost pixels mix with fewer neighbours
    inside = [
        (edge > 0.03 * full) & (edge < 0.97 * full)
        for edge, full in ((down, height), (across, width))
    ]
    assert min(map(sum, inside)) > 20
    found = seen[inside[0]][:, inside[1]]
    expected = np.broadcast_to(across[inside[1]] / width, found.shape[:2])
    np.testing.assert_allclose(found[..., 0], expected, atol=0.006)
    expected = np.broadcast_to((down[inside[0]] / height)[:, None], found.shape[:2])
    np.testing.assert_allclose(found[..., 1], expected, atol=0.006)
