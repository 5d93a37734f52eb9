"""The shared layers' own contract: exact shapes, config round trip, dtype policy, no tracing."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from zoo.errors import ConfigError
from zoo.layers.activation import ACTIVATIONS, Activation, activation
from zoo.layers.attention import Attention, DifferentialAttention, recording
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
from zoo.layers.drop import DropPath, LayerScale, drop_path_rates
from zoo.layers.kernels import convolution
from zoo.layers.linear import Dense
from zoo.layers.mlp import Mlp, PackedSwiGLU, SwiGLU, mlp_type
from zoo.layers.normalization import (
    BatchNorm,
    EvoNormS0,
    FilterResponseNorm,
    GroupNorm,
    LayerNorm,
    RMSNorm,
    norm_type,
)
from zoo.layers.pooling import AvgPool2D, BlurPool2D, GlobalPool2D, MaxPool2D, anti_alias
from zoo.layers.position import resize_matrix
from zoo.layers.tokens import AttentionPool, PatchEmbed, TokenEmbeddings, TokenPool

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
# of tokens, `[n, t, d]`
TOKEN_LAYERS = {
    "layer norm": LayerNorm,
    "rms norm": RMSNorm,
    "layer scale": LayerScale,
    "dense": lambda **kw: Dense(5, **kw),
    "mlp": lambda **kw: Mlp(12, act="gelu_tanh", norm="layernorm", **kw),
    "mlp of another width": lambda **kw: Mlp(12, outputs=6, drop=0.1, use_bias=False, **kw),
    "swiglu": lambda **kw: SwiGLU(10, act="silu", norm="rmsnorm", **kw),
    "packed swiglu": lambda **kw: PackedSwiGLU(10, act="silu", **kw),
    "attention": lambda **kw: Attention(4, **kw),
    "attention, normed": lambda **kw: Attention(
        2, qk_norm=True, scale_norm=True, qkv_bias=False, attn_drop=0.1, proj_drop=0.1, **kw
    ),
    "attention, grouped queries": lambda **kw: Attention(4, kv_heads=2, head_dim=6, **kw),
    "differential attention": lambda **kw: DifferentialAttention(2, depth=3, qk_norm=True, **kw),
    "token pool": lambda **kw: TokenPool("cat_token_avg", 2, **kw),
    "attention pool": lambda **kw: AttentionPool(2, 12, prefix=2, **kw),
}
TOKENS = (2, 7, 8)
PATCH_LAYERS = {
    "patches": lambda **kw: PatchEmbed(6, 4, norm_layer="layernorm", **kw),
    "padded patches": lambda **kw: PatchEmbed(6, 4, pad=True, **kw),
    "tokens": lambda **kw: TokenEmbeddings((13, 10), reg_tokens=2, reg_slots=False, **kw),
    "tokens of another grid": lambda **kw: TokenEmbeddings((5, 5), dist_token=True, **kw),
}


def images(shape=SHAPE, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


SHAPES = [(LAYERS | PATCH_LAYERS, SHAPE), (WIDE_LAYERS, (2, 6, 5, 64)), (TOKEN_LAYERS, TOKENS)]
CASES = {name: (make, shape) for layers, shape in SHAPES for name, make in layers.items()}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_shape_is_what_the_layer_says(case):
    make, shape = case
    layer = make()
    outputs = layer(images(shape))
    assert tuple(outputs.shape) == tuple(layer.compute_output_shape(shape))
    unknown = layer.compute_output_shape((*[None] * (len(shape) - 1), shape[-1]))
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


def test_config_says_what_is_frozen_inside(case):
    make, shape = case
    layer = make()
    layer.build(shape)
    parts = [*layer._flatten_layers(include_self=False), *layer.trainable_weights]
    for frozen in (parts[::2], parts[1::2], parts):
        layer.trainable = True
        for part in frozen:
            part.trainable = False
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()
        again.build(shape)
        for part in ("trainable_weights", "non_trainable_weights"):
            ours, expected = (
                [weight.path.partition("/")[2] for weight in getattr(which, part)]
                for which in (again, layer)
            )
            assert ours == expected
    layer = make(trainable=False)
    layer.build(shape)
    assert not any(weight.trainable for weight in layer.weights)


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
        (lambda: mlp_type("swiglo"), "mlp_layer='swiglo'.*Did you mean 'swiglu'"),
        (lambda: TokenPool("tokens", 1), "global_pool='tokens'.*Did you mean 'token'"),
        (lambda: TokenEmbeddings((2, 2), resample="cubic"), "pos_resample='cubic'"),
        (lambda: channel_attention("cbam", 8, {}), "attn_layer='cbam'"),
        (lambda: channel_attention("eca", 8, {"rd_ratio": 1}), "attn_args has rd_ratio"),
    ],
)
def test_unknown_names_in_configs(call, match):
    with pytest.raises(ConfigError, match=match):
        call()


# ---------------------------------------------------------------- attention and tokens


def test_queries_of_a_group_read_the_same_keys():
    """Grouped queries are plain attention whose keys and values are repeated."""
    grouped, plain = Attention(4, kv_heads=2, dtype="float64"), Attention(4, dtype="float64")
    x = images(TOKENS, "float64")
    for layer in (grouped, plain):
        layer.build(TOKENS)
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(8, 4 + 2 + 2, 2)), rng.normal(size=(4 + 2 + 2, 2))
    wide = [
        np.concatenate(
            [a[..., :4, :], *(np.repeat(a[..., k : k + 2, :], 2, -2) for k in (4, 6))], -2
        )
        for a in (kernel, bias)
    ]
    proj = [rng.normal(size=(8, 8)), rng.normal(size=8)]
    grouped.set_weights([kernel.reshape(8, -1), bias.reshape(-1), *proj])
    plain.set_weights([wide[0].reshape(8, -1), wide[1].reshape(-1), *proj])
    np.testing.assert_allclose(grouped(x), plain(x), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_masked_tokens_change_nothing(dtype):
    layer, x = Attention(4, dtype=dtype), images(TOKENS, "float64")
    mask = np.arange(7) < 5
    masked = np.asarray(layer(x, mask=mask[None]), np.float64)
    short = np.asarray(layer(x[:, :5]), np.float64)
    np.testing.assert_allclose(masked[:, :5], short, atol=1e-12 if dtype == "float64" else 2e-2)


def test_recording_collects_the_weights_of_attention():
    layer, x = Attention(4, qk_norm=True, dtype="float64"), images(TOKENS, "float64")
    outputs = layer(x)
    with recording() as maps:
        again = layer(x)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 7, 7)]
    np.testing.assert_allclose(np.sum(maps[0], -1), 1, rtol=1e-12)
    np.testing.assert_allclose(again, outputs, rtol=1e-10)
    layer(x)
    assert len(maps) == 1


def test_dropout_of_attention_acts_in_training_alone():
    layer, x = Attention(2, attn_drop=0.5), images(TOKENS)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    assert np.abs(np.asarray(layer(x, training=True)) - layer(x)).max() > 1e-3


@pytest.mark.parametrize("method", ["bicubic_antialias", "bicubic", "bilinear", "bilinear_corners"])
@pytest.mark.parametrize(("old", "new"), [(7, 7), (7, 3), (4, 9), (5, 1)])
def test_resizing_keeps_constants_and_sizes(method, old, new):
    matrix = resize_matrix(old, new, method, np)
    assert matrix.shape == (new, old)
    np.testing.assert_allclose(matrix.sum(-1), 1, rtol=1e-12)
    if old == new:
        np.testing.assert_allclose(matrix, np.eye(old), atol=1e-12)
    at_run_time = tf.function(lambda n: resize_matrix(old, n, method))(tf.constant(new))
    np.testing.assert_allclose(at_run_time, matrix, atol=1e-14)


def test_patches_are_padded_to_whole_ones():
    plain, padded = PatchEmbed(6, 4), PatchEmbed(6, 4, pad=True)
    x = images((1, 6, 9, 3))
    assert padded(x).shape == (1, 2, 3, 6)
    assert plain(x).shape == (1, 1, 2, 6)
    plain.set_weights(padded.get_weights())
    full = np.pad(x, ((0, 0), (0, 2), (0, 3), (0, 0)))
    np.testing.assert_allclose(padded(x), plain(full), rtol=1e-5, atol=1e-6)


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
