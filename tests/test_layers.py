"""The shared layers' own contract: exact shapes, config round trip, dtype policy, no tracing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.errors import ConfigError
from zoo.layers.activation import ACTIVATIONS, Activation, activation
from zoo.layers.building import build_uninitialized, dtype_scope, initialize, named_weights
from zoo.layers.channel_attention import (
    EfficientChannelAttention,
    SelectiveKernel,
    SplitAttention,
    SqueezeExcite,
    channel_attention,
    make_divisible,
)
from zoo.layers.convolution import Conv2D, standardized
from zoo.layers.drop import DropPath, drop_path_rates
from zoo.layers.kernels import convolution
from zoo.layers.normalization import (
    BatchNorm,
    EvoNormS0,
    FilterResponseNorm,
    GroupNorm,
    norm_type,
)
from zoo.layers.pooling import AvgPool2D, BlurPool2D, GlobalPool2D, MaxPool2D, anti_alias

LAYERS = {
    "conv": lambda **kw: Conv2D(6, 3, strides=2, **kw),
    "conv stride 1": lambda **kw: Conv2D(6, 3, use_bias=True, **kw),
    "conv dilated": lambda **kw: Conv2D(6, 3, dilation_rate=2, **kw),
    "conv strided and dilated": lambda **kw: Conv2D(6, 3, strides=2, dilation_rate=2, **kw),
    "conv grouped": lambda **kw: Conv2D(8, 3, groups=4, **kw),
    "conv standardised": lambda **kw: Conv2D(6, 7, strides=2, standardize=1e-8, **kw),
    "conv unpadded": lambda **kw: Conv2D(6, 3, pad=0, **kw),
    "batch norm": BatchNorm,
    "group norm": lambda **kw: GroupNorm(groups=4, **kw),
    "activation": lambda **kw: Activation("silu", **kw),
    "max pool": lambda **kw: MaxPool2D(3, 2, 1, **kw),
    "max pool on zeros": lambda **kw: MaxPool2D(3, 2, 1, zero_pad=True, **kw),
    "average pool, ceil": lambda **kw: AvgPool2D(2, 2, ceil_mode=True, **kw),
    "average pool, floor": lambda **kw: AvgPool2D(2, 2, **kw),
    "average pool, padded": lambda **kw: AvgPool2D(3, 2, pad=(1, 1), **kw),
    "average pool, stride 1": lambda **kw: AvgPool2D(2, 1, pad=(0, 1), **kw),
    "blur pool": BlurPool2D,
    "global pool": lambda **kw: GlobalPool2D("catavgmax", **kw),
    "squeeze-excite": lambda **kw: SqueezeExcite(0.25, **kw),
    "eca": lambda **kw: EfficientChannelAttention(8, **kw),
    "selective kernel": lambda **kw: SelectiveKernel(8, 2, **kw),
    "split attention": lambda **kw: SplitAttention(8, 2, groups=2, **kw),
    "drop path": lambda **kw: DropPath(0.2, seed=1, **kw),
}
WIDE_LAYERS = {"evonorm": EvoNormS0, "filter response norm": FilterResponseNorm}
SHAPE = (2, 13, 10, 8)


def images(shape=SHAPE, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.fixture(params=[*LAYERS, *WIDE_LAYERS])
def case(request):
    if request.param in WIDE_LAYERS:
        return WIDE_LAYERS[request.param], (2, 6, 5, 64)
    return LAYERS[request.param], SHAPE


def test_shape_is_what_the_layer_says(case):
    make, shape = case
    layer = make()
    outputs = layer(images(shape))
    assert tuple(outputs.shape) == tuple(layer.compute_output_shape(shape))
    unknown = layer.compute_output_shape((None, None, None, shape[-1]))
    assert len(unknown) == len(outputs.shape)
    assert unknown[-1] == outputs.shape[-1]


def test_config_makes_the_same_layer(case):
    make, shape = case
    layer = make()
    outputs = layer(images(shape))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.built or not layer.weights
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(images(shape)), outputs)


@pytest.mark.parametrize("policy", ["float64", "mixed_bfloat16", "bfloat16"])
def test_dtype_policy_reaches_every_child(case, policy):
    make, shape = case
    policy = keras.DTypePolicy(policy)
    layer = make(dtype=policy)
    outputs = layer(images(shape, "float64" if policy.name == "float64" else "float32"))
    assert outputs.dtype == policy.compute_dtype
    assert {w.dtype for w in layer.weights} <= {policy.variable_dtype}


def test_building_traces_no_graph(case, monkeypatch):
    make, shape = case
    traced = []
    layer = make()
    original = type(layer).call
    monkeypatch.setattr(type(layer), "call", lambda *a, **k: traced.append(a) or original(*a, **k))
    layer(keras.Input(shape[1:]))
    assert layer.built
    assert not traced


def test_gradients_reach_every_weight(case):
    make, shape = case
    layer = make(dtype="float32")
    with tf.GradientTape() as tape:
        loss = (
            tf.reduce_sum(layer(tf.constant(images(shape)), training=False) ** 2)
            if isinstance(layer, BatchNorm | DropPath)
            else tf.reduce_sum(layer(tf.constant(images(shape))) ** 2)
        )
    variables = [w.value for w in layer.trainable_variables]
    assert all(g is not None for g in tape.gradient(loss, variables))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_float64(name):
    x = np.linspace(-3, 3, 7)
    assert activation(name)(ops.convert_to_tensor(x)).dtype == "float64"


def test_gelu_is_exact():
    from math import erf

    x = np.linspace(-4, 4, 33)
    exact = [v / 2 * (1 + erf(v / 2**0.5)) for v in x]
    np.testing.assert_allclose(activation("gelu")(ops.convert_to_tensor(x)), exact, rtol=1e-14)


def test_standardised_kernels_have_mean_zero_and_variance_one():
    kernel = np.asarray(standardized(images((3, 3, 5, 7), "float64"), 0.0))
    np.testing.assert_allclose(kernel.mean((0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(kernel.var((0, 1, 2)), 1, rtol=1e-12)


@pytest.mark.parametrize("own", [True, False], ids=["this machine's", "forward alone"])
def test_grouped_gradient_is_that_of_the_plain_fallback(own, monkeypatch):
    """float32 takes TensorFlow's kernel, float64 the fallback: the two agree."""
    if not own:  # as on processors where TensorFlow has no such gradient
        monkeypatch.setattr(convolution, "_has_grouped_gradient", lambda: False)
    gradients = {}
    for dtype in ("float32", "float64"):
        keras.utils.set_random_seed(0)
        layer = Conv2D(8, 3, groups=4, dtype=dtype)
        x = tf.constant(images(dtype=dtype))
        layer.build(x.shape)
        layer.set_weights([np.random.default_rng(1).normal(size=layer.kernel.shape)])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        gradients[dtype] = tape.gradient(loss, layer.kernel.value).numpy()
    np.testing.assert_allclose(gradients["float32"], gradients["float64"], rtol=1e-4)


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    layer = DropPath(0.25, seed=3)
    x = np.ones((4000, 2, 2, 1), np.float32)
    y = np.asarray(layer(x, training=True))
    per_example = y.reshape(len(y), -1)
    assert (per_example == per_example[:, :1]).all()
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert abs(y.mean() - 1) < 0.03
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_drop_path_rates_rise_linearly():
    assert drop_path_rates(0.3, (1, 3)) == [[0.0], pytest.approx([0.1, 0.2, 0.3])]


@pytest.mark.parametrize(
    ("value", "expected"), [(16, 16), (17, 16), (18, 24), (20, 24), (3, 8), (11, 16)]
)
def test_make_divisible(value, expected):
    assert make_divisible(value) == expected


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: norm_type("batchnorm"), "Did you mean 'batchnorm2d'"),
        (lambda: activation("gelo"), "act_layer='gelo'.*Did you mean 'gelu'"),
        (lambda: GlobalPool2D("average"), "global_pool='average'"),
        (lambda: anti_alias("gauss", 2), "aa_layer='gauss'"),
        (lambda: channel_attention("cbam", 8, {}), "attn_layer='cbam'"),
        (lambda: channel_attention("eca", 8, {"rd_ratio": 1}), "attn_args has rd_ratio"),
    ],
)
def test_unknown_names_in_configs(call, match):
    with pytest.raises(ConfigError, match=match):
        call()


# ---------------------------------------------------------------- deferred building


def small_model(dtype="float32"):
    with dtype_scope(keras.DTypePolicy(dtype)):
        return build_uninitialized(_build)


def _build():
    inputs = keras.Input((8, 8, 4), name="images")
    x = Conv2D(8, 3, name="stage.0")(inputs)
    x = SqueezeExcite(0.5, name="stage.1")(x)
    x = DropPath(0.1, name="drop")(BatchNorm(name="bn")(x))
    return keras.Model(inputs, x)


def test_weights_are_named_from_the_layer_tree():
    assert list(named_weights(small_model())) == [
        "stage.0.kernel",
        "stage.1.fc1.kernel",
        "stage.1.fc1.bias",
        "stage.1.fc2.kernel",
        "stage.1.fc2.bias",
        "bn.gamma",
        "bn.beta",
        "bn.moving_mean",
        "bn.moving_variance",
    ]


def test_names_do_not_depend_on_what_was_built_before():
    assert list(named_weights(small_model())) == list(named_weights(small_model()))


def test_values_are_given_and_the_rest_is_initialised():
    model = small_model()
    kernel = images((3, 3, 4, 8))
    initialize(model, {"stage.0.kernel": kernel})
    weights = named_weights(model)
    np.testing.assert_array_equal(weights["stage.0.kernel"], kernel)
    np.testing.assert_array_equal(weights["bn.gamma"], np.ones(8))
    assert np.asarray(weights["stage.1.fc1.kernel"]).std() > 0
    assert np.isfinite(model(images((1, 8, 8, 4)), training=True)).all()


@pytest.mark.parametrize("source", ["float16", "float32", "float64", "bfloat16"])
@pytest.mark.parametrize("target", ["float32", "float64", "bfloat16"])
def test_values_of_any_float_dtype(source, target):
    import ml_dtypes

    model = small_model(target)
    dtype = ml_dtypes.bfloat16 if source == "bfloat16" else source
    stored = np.ascontiguousarray(images((8, 4, 3, 3))).astype(dtype)
    stored.flags.writeable = False
    initialize(model, {"stage.0.kernel": stored.transpose(2, 3, 1, 0)})
    got = np.asarray(named_weights(model)["stage.0.kernel"]).astype("float64")
    wide = stored.astype("float64")
    expected = tf.cast(tf.constant(wide), target).numpy().astype("float64").transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(got, expected)


def test_training_does_not_touch_the_loaded_array():
    model = small_model()
    kernel = images((3, 3, 4, 8))
    kept = kernel.copy()
    initialize(model, {"stage.0.kernel": kernel})
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(images((4, 8, 8, 4)), images((4, 8, 8, 8)), verbose=0)
    np.testing.assert_array_equal(kernel, kept)
    assert (np.asarray(named_weights(model)["stage.0.kernel"]) != kept).any()


def test_a_wrong_shape_or_name_is_refused():
    with pytest.raises(ValueError, match=r"stage.0.kernel: value \(1,\), variable \(3, 3, 4, 8\)"):
        initialize(small_model(), {"stage.0.kernel": np.zeros(1)})
    with pytest.raises(ValueError, match="no weight named nope"):
        initialize(small_model(), {"nope": np.zeros(1)})


def test_a_failed_build_leaves_keras_as_it_was():
    def fail():
        Conv2D(8, 3).build((None, 8, 8, 4))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_uninitialized(fail)
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    assert np.asarray(layer.kernel).shape == (3, 2)
    assert keras.config.dtype_policy().name == "float32"


def test_keras_is_a_version_that_the_private_api_was_tried_on():
    assert keras.__version__.split(".")[:2] == ["3", "15"]
