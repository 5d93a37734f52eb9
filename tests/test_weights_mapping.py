"""Weight maps: their laws on random values, and what they refuse."""

import numpy as np
import pytest

from zoo.errors import WeightsError
from zoo.weights.mapping import (
    BATCHES_TRACKED,
    SAME,
    Constant,
    Operation,
    Row,
    WeightMap,
    torch_rows,
)

RNG = np.random.default_rng(0)

# a fused projection of the source: three tensors of the model from one of the file
SPLIT = Operation(
    "split",
    lambda arrays: [part.T for part in np.split(arrays[0], 3)],
    lambda arrays: [np.concatenate([a.T for a in arrays])],
)
# two biases of the source that only their sum matters of
SUM = Operation("sum", lambda a: [a[0] + a[1]], lambda a: [a[0], np.zeros_like(a[0])], lossy=True)
TABLE = WeightMap(
    (
        *torch_rows(pointwise=("head.fc",)),
        Row(("*.q.matrix", "*.k.matrix", "*.v.matrix"), "*.qkv.weight", SPLIT),
        Row("*.cell", ("*.bias_ih", "*.bias_hh"), SUM),
    ),
    constants=(BATCHES_TRACKED,),
    ignore=("*.mask",),
)
SHAPES = {
    "conv.kernel": (3, 3, 4, 8),
    "conv1d.kernel": (5, 1, 1),
    "block.0.fc.kernel": (8, 6),
    "block.0.fc.bias": (6,),
    "bn.gamma": (8,),
    "bn.beta": (8,),
    "bn.moving_mean": (8,),
    "bn.moving_variance": (8,),
    "head.fc.kernel": (8, 10),
    "head.fc.bias": (10,),
    "attn.q.matrix": (4, 2),
    "attn.k.matrix": (4, 2),
    "attn.v.matrix": (4, 2),
}
LOSSY = {"lstm.cell": (7,)}


def weights(shapes=SHAPES):
    return {name: RNG.normal(size=shape) for name, shape in shapes.items()}


def equal(a, b):
    assert set(a) == set(b)
    for name in a:
        assert a[name].shape == b[name].shape, name
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_source_names_and_shapes():
    tensors = TABLE.export(weights())
    assert {k: v.shape for k, v in tensors.items()} == {
        "conv.weight": (8, 4, 3, 3),
        "conv1d.weight": (1, 1, 5),
        "block.0.fc.weight": (6, 8),
        "block.0.fc.bias": (6,),
        "bn.weight": (8,),
        "bn.bias": (8,),
        "bn.running_mean": (8,),
        "bn.running_var": (8,),
        "head.fc.weight": (10, 8, 1, 1),
        "head.fc.bias": (10,),
        "attn.qkv.weight": (6, 4),
    }


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES | LOSSY], ids=["exact rows", "lossy rows too"])
def test_load_of_save_is_the_model(shapes):
    model = weights(shapes)
    equal(TABLE.resolve(TABLE.export(model), shapes).values, model)


def test_save_of_load_is_the_file():
    file = {k: np.ascontiguousarray(v) for k, v in TABLE.export(weights()).items()}
    file["bn.num_batches_tracked"] = np.array(4711)
    loaded = TABLE.resolve(file, SHAPES)
    saved = TABLE.export(loaded.values) | TABLE.constants_for(SHAPES, loaded.constants)
    equal(saved, file)


def test_a_lossy_row_says_so_and_keeps_the_sum():
    file = {"lstm.bias_ih": RNG.normal(size=7), "lstm.bias_hh": RNG.normal(size=7)}
    loaded = TABLE.resolve(file, LOSSY)
    saved = TABLE.export(loaded.values)
    assert TABLE.matches(LOSSY)[0].row.operation.lossy
    np.testing.assert_array_equal(saved["lstm.bias_ih"], sum(file.values()))
    assert not saved["lstm.bias_hh"].any()


def test_constants_of_a_new_model_are_the_declared_ones():
    constants = TABLE.constants_for(SHAPES)
    assert constants["bn.num_batches_tracked"] == 0
    assert constants["bn.num_batches_tracked"].dtype == np.int64
    assert constants["bn.num_batches_tracked"].shape == ()


def test_a_constant_may_be_absent_and_is_then_not_written():
    loaded = TABLE.resolve(TABLE.export(weights()), SHAPES)
    assert TABLE.constants_for(SHAPES, loaded.constants) == {}


def test_loading_copies_nothing():
    file = TABLE.export(weights())
    values = TABLE.resolve(file, SHAPES).values
    for name in SHAPES:
        assert any(np.shares_memory(values[name], tensor) for tensor in file.values()), name


def test_a_weight_that_matches_no_row():
    with pytest.raises(WeightsError, match=r"'odd.thing' must match exactly one row.*none"):
        TABLE.matches(["conv.kernel", "odd.thing"])


def test_a_weight_that_matches_two_rows():
    table = WeightMap((Row("*.kernel", "*.weight"), Row("conv.*", "conv.*", SAME)))
    with pytest.raises(WeightsError, match=r"exactly one row; it matches '\*.kernel', 'conv.\*'"):
        table.matches(["conv.kernel"])


def test_a_missing_tensor_names_the_nearest_one():
    file = TABLE.export(weights())
    file["conv.weigth"] = file.pop("conv.weight")
    with pytest.raises(WeightsError) as error:
        TABLE.resolve(file, SHAPES, origin="model.safetensors")
    message = str(error.value)
    assert message.startswith("model.safetensors does not fit the model.")
    assert "needs 1 tensor(s): conv.weight. Did you mean 'conv.weigth'?" in message
    assert "no place in the model, 1 tensor(s): conv.weigth." in message


def test_an_extra_tensor_is_refused_unless_declared_or_allowed():
    file = TABLE.export(weights()) | {"aux.weight": np.zeros(3), "attn.mask": np.zeros(2)}
    with pytest.raises(WeightsError, match=r"1 tensor\(s\): aux\.weight"):
        TABLE.resolve(file, SHAPES)
    assert TABLE.resolve(file, SHAPES, spare=("aux.*",)).ignored == ("attn.mask", "aux.weight")


def test_a_shape_that_differs_is_refused_with_both_shapes():
    file = TABLE.export(weights()) | {"conv.weight": np.zeros((8, 4, 5, 5))}
    with pytest.raises(WeightsError) as error:
        TABLE.resolve(file, SHAPES)
    assert "conv.weight: the file gives (5, 5, 4, 8), the model has (3, 3, 4, 8)" in str(
        error.value
    )


@pytest.mark.parametrize("head", [{"head.fc.weight": (5, 8, 1, 1), "head.fc.bias": (5,)}, {}])
def test_weights_that_may_stay_fresh(head):
    file = {k: v for k, v in TABLE.export(weights()).items() if not k.startswith("head")}
    file |= {name: np.zeros(shape) for name, shape in head.items()}
    loaded = TABLE.resolve(file, SHAPES, fresh=("head.fc.kernel", "head.fc.bias"))
    assert loaded.fresh == ("head.fc.kernel", "head.fc.bias")
    assert loaded.ignored == tuple(sorted(head))
    assert "head.fc.kernel" not in loaded.values


def test_every_problem_is_in_one_message():
    file = TABLE.export(weights())
    del file["bn.weight"]
    file |= {"x": np.zeros(1), "bn.bias": np.zeros(9)}
    with pytest.raises(WeightsError) as error:
        TABLE.resolve(file, SHAPES)
    assert all(word in str(error.value) for word in ("bn.weight", " x.", "bn.bias", "(9,)"))


def test_several_captures():
    row = Row("stage.*.block.*.w", "s*/b*/w")
    assert row.match("stage.1.block.2.w").sources == ("s1/b2/w",)


def test_a_constant_stands_beside_each_match():
    table = WeightMap((Row("*.w", "*.w"),), (Constant("*.w", "*.steps", np.int32(3)),))
    assert set(table.constants_for(["a.w", "b.w"])) == {"a.steps", "b.steps"}
