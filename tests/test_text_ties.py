"""Language models whose files hold a tied pair of weights under one name, under both, or apart."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from synthetic_texts import bert, gpt2

import zoo
from zoo.errors import WeightsError
from zoo.layers.building import named_weights
from zoo.weights.files import open_checkpoint

TABLE = "embeddings.word_embeddings.embeddings"
IDS = np.array([[2, 9, 4, 7]])
BERT = {
    "table": "bert.embeddings.word_embeddings.weight",
    "head": "cls.predictions.decoder.weight",
    "bias": "cls.predictions.bias",
    "own bias": "cls.predictions.decoder.bias",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Language models as transformers saves them: with the table alone, and one bias."""
    return {
        "bert": bert(tmp_path_factory.mktemp("bert"), task="fill-mask"),
        "gpt2": gpt2(tmp_path_factory.mktemp("gpt2")),
    }


@pytest.fixture
def changed(folders, tmp_path):
    """A folder like one of these with other tensors, from a function of its tensors."""

    def change(name, function, metadata=None):
        for path in folders[name].iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        tensors = function(load_file(folders[name] / "model.safetensors"))
        save_file(tensors, tmp_path / "model.safetensors", metadata)
        return tmp_path, tensors

    return change


def renamed(names):
    return lambda tensors: {names.get(name, name): value for name, value in tensors.items()}


def assert_saved_as(folder, model, tensors):
    """A save has the tensors of the file, bit for bit."""
    saved = load_file(zoo.save(model, folder / "again") / "model.safetensors")
    assert set(saved) == set(tensors)
    assert all(saved[name].tobytes() == value.tobytes() for name, value in tensors.items())


@pytest.mark.parametrize("noted", [False, True], ids=["", "noted in the metadata"])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("gpt2", {"transformer.wte.weight": "lm_head.weight"}),
        ("bert", {BERT["table"]: BERT["head"], BERT["bias"]: BERT["own bias"]}),
    ],
)
def test_the_head_s_name_alone(folders, changed, kind, names, noted):
    folder, tensors = changed(kind, renamed(names), names if noted else None)
    model = zoo.load(folder)
    assert np.array_equal(model(IDS), zoo.load(folders[kind])(IDS))
    assert not model.load_report.fresh
    assert not model.load_report.ignored
    note = f"the tensor of {next(iter(names))} is in the file as {next(iter(names.values()))}"
    assert note in model.load_report.notes
    assert note in str(model.load_report)
    assert_saved_as(folder, model, tensors)


def test_both_names_with_equal_values(folders, changed):
    both = {BERT["table"]: BERT["head"], BERT["bias"]: BERT["own bias"]}
    folder, tensors = changed("bert", lambda t: t | renamed(both)(t))
    model = zoo.load(folder)
    assert np.array_equal(model(IDS), zoo.load(folders["bert"])(IDS))
    assert "decoder" not in {layer.name for layer in model.layers}  # one matrix, as before
    assert_saved_as(folder, model, tensors)
    trained = named_weights(model)[TABLE]
    trained.assign(trained + 1)
    saved = load_file(zoo.save(model, folder / "trained") / "model.safetensors")
    assert np.array_equal(saved[BERT["head"]], saved[BERT["table"]])


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_a_head_with_values_of_its_own(folders, changed, kind, with_bias):
    """The logits are those of the file's own head, and the config that is saved says so."""
    rng = np.random.default_rng(0)
    table = {"gpt2": "transformer.wte.weight", "bert": BERT["table"]}[kind]
    head = {"gpt2": "lm_head.weight", "bert": BERT["head"]}[kind]

    def own(tensors):
        own = {head: rng.normal(size=tensors[table].shape).astype("float32")}
        if with_bias and kind == "bert":
            own[BERT["own bias"]] = rng.normal(size=40).astype("float32")
        return tensors | own

    folder, tensors = changed(kind, own)
    model = zoo.load(folder)
    assert "tied=False, as the file's tensors have it" in model.load_report.notes
    plain = zoo.load(folders[kind])(IDS).numpy()
    values = load_file(folders[kind] / "model.safetensors")
    ones = np.linalg.lstsq(values[table], np.eye(len(values[table])), rcond=None)[0]
    bias = values.get(BERT["bias"], 0)
    hidden = (plain - bias) @ ones.T  # what the plain head made its logits of
    expected = hidden @ tensors[head].T + tensors.get(BERT["own bias"], bias)
    np.testing.assert_allclose(model(IDS), expected, atol=1e-3)

    saved = zoo.save(model, folder / "again")
    assert json.loads((saved / "config.json").read_text())["tie_word_embeddings"] is False
    again = load_file(saved / "model.safetensors")
    assert all(np.array_equal(again[name], value) for name, value in tensors.items())
    assert np.array_equal(zoo.load(saved)(IDS), model(IDS))


def test_the_bias_of_the_map_is_the_one_that_counts(changed):
    own = np.arange(40, dtype="float32")
    folder, _ = changed("bert", lambda t: t | {BERT["own bias"]: own})
    model = zoo.load(folder)
    assert model.load_report.ignored == (BERT["bias"],)
    shift = model(IDS).numpy() - zoo.load(folder, weights=_plain(folder))(IDS).numpy()
    kept = load_file(folder / "model.safetensors")[BERT["bias"]]
    np.testing.assert_allclose(shift[0], np.tile(own - kept, (4, 1)), atol=1e-4)


def _plain(folder):
    tensors = load_file(folder / "model.safetensors")
    path = folder / "plain.safetensors"
    save_file({k: v for k, v in tensors.items() if k != BERT["own bias"]}, path)
    return path


def test_another_task_reads_either_name(folders, changed):
    folder, _ = changed("gpt2", renamed({"transformer.wte.weight": "lm_head.weight"}))
    model = zoo.load(folder, num_classes=2)
    plain = zoo.load(folders["gpt2"], num_classes=2)
    assert np.array_equal(named_weights(model)[TABLE], named_weights(plain)[TABLE])
    saved = load_file(zoo.save(model, folder / "again") / "model.safetensors")
    assert "transformer.wte.weight" in saved
    assert "lm_head.weight" not in saved


def test_no_tie_where_the_config_has_none(changed):
    folder, _ = changed("gpt2", renamed({"transformer.wte.weight": "lm_head.weight"}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(WeightsError, match=r"needs 1 tensor\(s\): transformer\.wte\.weight"):
        zoo.load(folder)


def test_shards(folders, changed):
    names = {"transformer.wte.weight": "lm_head.weight"}
    folder, tensors = changed("gpt2", renamed(names), names)
    model = zoo.load(folder)
    shards = zoo.save(model, folder / "shards", max_shard_size=20_000)
    assert len(list(shards.glob("*.safetensors"))) > 1
    again = zoo.load(shards)
    assert np.array_equal(again(IDS), model(IDS))
    assert set(open_checkpoint(sorted(shards.glob("*.safetensors")))) == set(tensors)


def test_notes_in_the_metadata_name_any_tensor(tmp_path):
    """`save_model` leaves out every further name of a tensor, whichever module it is of."""
    folder = zoo.save(zoo.load("test_resnet", pretrained=False, num_classes=3), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    one, other = "layer1.0.bn1.weight", "layer1.0.bn2.weight"
    tensors[other] = tensors[one]
    save_file(tensors, folder / "model.safetensors")
    model = zoo.load(folder, dtype="float32")
    del tensors[one]
    save_file(tensors, folder / "model.safetensors", {one: other, "format": "pt"})
    checkpoint = open_checkpoint(folder / "model.safetensors")
    assert checkpoint.aliases == {one: other}
    assert one in checkpoint
    assert one not in list(checkpoint)
    assert checkpoint.shape(one) == checkpoint[other].shape
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    np.testing.assert_array_equal(zoo.load(folder)(x), model(x))
    with safe_open(folder / "model.safetensors", "np") as file:
        assert one not in file.keys()  # noqa: SIM118


@pytest.mark.parametrize("kept", ["encoder.weight", "decoder.weight"])
def test_awd_lstm(tmp_path, kept):
    model = zoo.load("awd_lstm", pretrained=False, vocab_size=20, emb_sz=6, n_hid=7)
    tensors = load_file(zoo.save(model, tmp_path / "model") / "model.safetensors")
    one = {"encoder.weight", "decoder.weight"} - {kept}
    alone = {name: value for name, value in tensors.items() if name not in one}
    raw = {n: n.replace("weight_hh_l0_raw", "module.weight_hh_l0") for n in alone}
    path = tmp_path / "alone.safetensors"
    for names in ({}, raw):
        changed = renamed(names)(alone)
        save_file(changed, path)
        again = zoo.load("awd_lstm", weights=path, vocab_size=20, emb_sz=6, n_hid=7)
        np.testing.assert_array_equal(again(IDS), model(IDS))
        assert_saved_as(tmp_path, again, changed)
    other = alone | dict.fromkeys(one, tensors[kept] + 1)
    save_file(other, path)
    with pytest.raises(WeightsError, match=r"what should be one tensor.*tie_weights=False"):
        zoo.load("awd_lstm", weights=path, vocab_size=20, emb_sz=6, n_hid=7)
