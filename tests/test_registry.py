"""The registry: names, cards, filters, label sets, other packages' families."""

import json
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from zoo.errors import ConfigError, OptionError, UnknownNameError
from zoo.preprocessing.spec import ImageSpec
from zoo.preprocessing.text_spec import TextSpec
from zoo.registry import labels, registry
from zoo.registry.card import ModelCard, WeightsFile, from_data, to_data
from zoo.registry.heads import task_of as text_task

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import build_index

ALL = registry.list_models()


# ---- names and cards


def names_in(file: str, kind: str) -> list[str]:
    return sorted(json.loads((registry.CARDS / file).read_text("utf-8"))[kind])


@pytest.mark.parametrize(
    ("module", "architectures", "cards"),
    [("resnet", 81, 150), ("resnetv2", 20, 24), ("sknet", 5, 3), ("resnest", 8, 8)],
)
def test_every_architecture_and_pretrained_tag_is_there(module, architectures, cards):
    names = names_in(f"{module}.json", "architectures")
    assert len(names) == architectures
    assert set(names) <= set(registry.list_architectures())
    names = names_in(f"{module}.json", "cards")
    assert len(names) == cards
    assert set(names) <= set(ALL)


def test_names_are_sorted_and_unique():
    assert sorted(set(ALL)) == ALL
    assert sorted(set(registry.list_architectures())) == registry.list_architectures()


def test_card_of_a_bare_name_is_that_of_the_default_tag():
    card = registry.info("resnet50")
    assert card == registry.info("resnet50.a1_in1k")
    figures = card.published.pop("imagenet-1k")
    assert figures.pop("source").endswith("/results/results-imagenet.csv")
    assert figures == {
        "top1": 80.382,
        "top5": 94.598,
        "img_size": 224,
        "crop_pct": 0.95,
        "interpolation": "bicubic",
    }
    assert list(card.published) == ["imagenet-1k@288"]
    assert replace(card, published={}) == ModelCard(
        name="resnet50.a1_in1k",
        architecture="resnet50",
        family="resnet",
        config={"block": "bottleneck", "layers": [3, 4, 6, 3]},
        weights=WeightsFile(repo="timm/resnet50.a1_in1k"),
        preprocessing=ImageSpec(crop_pct=0.95, test_input_size=(288, 288), test_crop_pct=1.0),
        labels="imagenet-1k",
        license="apache-2.0",
        num_params=25557032,
        paper_ids=("arXiv:2110.00476",),
        origin_url="https://github.com/huggingface/pytorch-image-models",
    )


def test_a_card_of_other_classes_says_so():
    card = registry.info("resnetv2_50x1_bit.goog_in21k")
    assert card.config["num_classes"] == 21843
    assert card.labels == "imagenet-21k-goog"
    assert card.num_params == registry.info("resnetv2_50x1_bit").num_params + 2049 * 20843
    features = registry.info("resnet50.bamboo")
    assert (features.task, features.labels) == ("image-feature-extraction", None)


def test_an_architecture_without_pretrained_tag_has_a_card_without_weights():
    card = registry.info("resnet200")
    assert card.weights is None
    assert card.name == card.architecture == "resnet200"
    assert card.preprocessing == ImageSpec(test_input_size=(288, 288), test_crop_pct=0.95)
    assert registry.list_models("resnet200") == []


TEXTS = [n for n in ALL if isinstance(registry.info(n).preprocessing, TextSpec)]
FROM_TIMM = [n for n in ALL if n not in TEXTS and registry.info(n).weights.layout is None]


@pytest.mark.parametrize("name", [n for n in FROM_TIMM if not registry.info(n).weights.bundled])
def test_every_card_is_whole(name):
    card = registry.info(name)
    assert registry.is_name(name)
    assert card.name == name
    assert card.architecture == name.partition(".")[0]
    assert isinstance(card.weights, WeightsFile)
    assert isinstance(card.preprocessing, ImageSpec)
    assert card.num_params > 300_000
    classes = card.config.get("num_classes", 1000)
    assert card.labels == labels.infer(classes)  # by their number; nobody names the others
    if card.task == "image-classification":
        assert classes
    for figures in card.published.values():
        assert figures["source"].startswith("https://")
        assert 40 < figures["top1"] < figures["top5"] < 100


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_card_is_whole(name):
    card = registry.info(name)
    assert card.weights.repo.count("/") == 1
    assert card.num_params > 10e6
    assert card.preprocessing.vocab_size == card.config["vocab_size"]
    assert card.task == text_task(card.config)
    classes = card.config["num_classes"]
    assert card.labels is None or len(card.labels) == classes
    assert bool(classes) == (card.task in ("text-classification", "token-classification"))


def test_there_are_cards_of_the_well_known_text_models():
    assert len(TEXTS) >= 60
    wanted = {"all-minilm-l6-v2", "bge-base-en-v1.5", "e5-base-v2", "bert-base-uncased", "gpt2"}
    wanted |= {
        "roberta-base",
        "xlm-roberta-base",
        "distilbert-base-uncased-finetuned-sst-2-english",
    }
    assert wanted <= set(TEXTS)
    counts = {"gpt2": 124_439_808, "bert-base-uncased": 109_514_298, "roberta-base": 124_697_433}
    for name, count in counts.items():  # what transformers counts
        assert registry.info(name).num_params == count


def test_a_card_cannot_be_changed_for_others():
    card = registry.info("resnet18")
    with pytest.raises(FrozenInstanceError):
        card.name = "other"
    card.config["layers"].append(7)
    registry.architecture_card("resnet18").config["layers"].append(7)
    assert registry.info("resnet18").config["layers"] == [2, 2, 2, 2]
    assert registry.architecture_card("resnet18").config == {
        "block": "basic",
        "layers": [2, 2, 2, 2],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnt50", "There is no model 'resnt50'. Did you mean 'resnet50'"),
        ("resnt50.a1_in1k", "Did you mean 'resnet50.a1_in1k'"),
        ("ResNet50", "Did you mean 'resnet50'"),
        ("gluon_resnet50", "Did you mean 'gluon_resnet50_v1"),
        (
            "resnet50.a1_1k",
            "'resnet50' has no tag 'a1_1k'; its tags are a1_in1k, a1h_in1k, a2_in1k",
        ),
        ("resnet50.a1_1k", "Did you mean 'a1_in1k'"),
        ("resnet200.a1_in1k", "'resnet200' has no tag 'a1_in1k'; nothing pretrained"),
        ("", "There is no model ''"),
    ],
)
def test_a_wrong_name_gives_the_nearest(name, expected):
    assert not registry.is_name(name)
    with pytest.raises(UnknownNameError) as raised:
        registry.info(name)
    assert expected in str(raised.value)


def test_a_deprecated_name_forwards_with_a_warning_at_the_caller():
    assert registry.is_name("tv_resnet50")
    with pytest.warns(
        FutureWarning, match="'tv_resnet50' is deprecated; .*resnet50.tv_in1k"
    ) as seen:
        card = registry.info("tv_resnet50")
    assert card == registry.info("resnet50.tv_in1k")
    assert seen[0].filename == __file__
    assert "tv_resnet50" not in registry.list_architectures()
    assert registry.architecture_card("tv_resnet50").architecture == "resnet50"


def test_an_unknown_architecture_gives_the_nearest():
    with pytest.raises(UnknownNameError, match=r"no architecture 'resnet50.a1_in1k'. .*'resnet50"):
        registry.architecture_card("resnet50.a1_in1k")


# ---- listing


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnet10t", ["resnet10t.c3_in1k"]),
        ("resnet1?t", ["resnet10t.c3_in1k", "resnet14t.c3_in1k"]),
        ("resnet34.a?_in1k", ["resnet34.a1_in1k", "resnet34.a2_in1k", "resnet34.a3_in1k"]),
        (["resnet14t", "resnet10t.*"], ["resnet10t.c3_in1k", "resnet14t.c3_in1k"]),
        ("no_such_model*", []),
        ([], []),
    ],
)
def test_patterns(pattern, expected):
    assert registry.list_models(pattern) == expected


def test_filters_agree_with_the_cards():
    asked = {
        "license": ["apache-2.0", "bsd-3-clause"],
        "task": "image-classification",
        "min_params": 20e6,
        "max_params": 30e6,
        "min_top1": 79.5,
    }
    found = registry.list_models("resnet*", **asked)
    expected = [
        name
        for name in ALL
        if name.startswith("resnet")
        and (card := registry.info(name)).license in asked["license"]
        and card.task == asked["task"]
        and 20e6 <= card.num_params <= 30e6
        and card.published.get("imagenet-1k", {}).get("top1", 0) >= 79.5
    ]
    assert found == expected
    assert "resnet50.a1_in1k" in found
    assert "resnet50.fb_swsl_ig1b_ft_in1k" not in found  # cc-by-nc-4.0
    assert "resnet50.tv_in1k" not in found  # 76.1 %


def test_filters_that_nothing_meets_together_give_an_empty_list():
    assert registry.list_models(family="resnetv2", license="bsd-3-clause") == []
    assert registry.list_models(license="cc-by-nc-4.0", min_top1=99) == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"license": "apache2"}, "license='apache2'; there are .* Did you mean 'apache-2.0'"),
        ({"family": "resnets"}, "family='resnets'; there are .*'resnet'"),
        ({"task": ["image-clasification"]}, "Did you mean 'image-classification'"),
    ],
)
def test_an_unknown_filter_value_gives_the_nearest(asked, expected):
    with pytest.raises(UnknownNameError, match=expected):
        registry.list_models(**asked)


@pytest.mark.parametrize("option", ["min_params", "max_params", "min_top1"])
def test_a_bound_is_a_number(option):
    with pytest.raises(OptionError, match=f"{option} is a number.* got '30M'"):
        registry.list_models(**{option: "30M"})


# ---- data


@pytest.mark.parametrize("name", ["resnet50", "resnet200", "ecaresnet50d_pruned"])
def test_a_card_survives_json(name):
    card = registry.info(name)
    assert from_data(ModelCard, json.loads(json.dumps(to_data(card)))) == card


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"name": "a", "architecture": "a"}, "ModelCard needs the field\\(s\\) family; found"),
        ({"name": "a", "licence": "mit"}, "no field 'licence'.* Did you mean 'license'"),
        ({"name": "a", "weights": {"rep": "a/b"}}, "WeightsFile has no field 'rep'"),
    ],
)
def test_card_data_is_checked(data, expected):
    full = {"architecture": "a", "family": "f"} if "architecture" not in data else {}
    with pytest.raises(ConfigError, match=expected):
        from_data(ModelCard, {**full, **data})


MINI = {
    "family": "resnet",
    "module": "zoo.architectures.resnet",
    "formats": "zoo.formats.resnet",
    "architectures": {"resnet_mini": {"config": {"layers": [1]}, "default": "digits"}},
    "cards": {
        "resnet_mini.digits": {
            "weights": {"repo": "resnet_mini.digits", "bundled": True},
            "labels": list("0123456789"),
            "published": {"digits": {"top1": 99.0, "source": "tests"}},
        }
    },
    "deprecated": {"resnet_micro": "resnet_mini", "resnet_nano": None},
}


@pytest.fixture
def fresh():
    """Empty caches before and after, so that a test sees its own files alone."""
    caches = (registry._index, registry._file, registry._others)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def two_files(fresh, tmp_path, monkeypatch):
    """The family `resnet` in two files; gives what writes the second, and the tables of both."""
    cards, index = tmp_path / "cards", tmp_path / "index"
    for folder in (cards, index):
        folder.mkdir()
    (cards / "resnet.json").write_text((registry.CARDS / "resnet.json").read_text())
    monkeypatch.setattr(registry, "CARDS", cards)
    monkeypatch.setattr(registry, "INDEX", index)

    def write(data):
        (cards / "digits.json").write_text(json.dumps(data))
        for name, text in build_index.tables(cards).items():
            (index / name).write_text(text)

    return write


def test_a_family_may_have_a_second_file(two_files):
    two_files(MINI)
    card = registry.info("resnet_mini")
    assert card.labels == tuple("0123456789")
    assert card.weights == WeightsFile(repo="resnet_mini.digits", bundled=True)
    assert card.published == {"digits": {"top1": 99.0, "source": "tests"}}
    assert registry.families() == ["resnet"]
    assert registry.list_models("*mini*") == ["resnet_mini.digits"]


def test_a_removed_name_says_so(two_files):
    two_files(MINI)
    with pytest.raises(UnknownNameError, match="'resnet_nano' has been removed"):
        registry.info("resnet_nano")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"module": "elsewhere"},
            "'resnet' is in 'elsewhere' and in 'zoo.architectures.resnet'",
        ),
        ({"deprecated": {"resnet50": "resnet_mini"}}, "'resnet50' is in 'digits' and in 'resnet'"),
        ({"deprecated": {"old": "resnet_max"}}, "'resnet_max' is a default or a successor"),
        ({"architectures": {}, "deprecated": {}}, "'resnet_mini.digits' is of no architecture"),
    ],
)
def test_a_file_that_contradicts_itself_or_others_is_refused(two_files, change, expected):
    with pytest.raises(ConfigError, match=expected):
        two_files(MINI | change)


def test_the_index_is_what_the_script_writes():
    for name, text in build_index.tables().items():
        assert (registry.INDEX / name).read_text("utf-8") == text, "run scripts/build_index.py"


def test_a_name_of_zoo_reads_one_file(fresh):
    assert registry.info("resnet50").name == "resnet50.a1_in1k"
    assert registry.import_family("resnet").name == "resnet"
    assert registry._file.cache_info().misses == 1
    assert registry._others.cache_info().misses == 0


# ---- families and their modules


def test_families():
    assert {"resnet", "resnetv2"} <= set(registry.families())
    assert registry.family_module("resnet") == "zoo.architectures.resnet"
    with pytest.raises(UnknownNameError, match=r"no family 'resnets'; .* Did you mean 'resnet'"):
        registry.import_family("resnets")


def test_reading_the_registry_imports_no_framework():
    program = """
        import sys, time
        start = time.perf_counter()
        from zoo.registry import registry
        registry.list_models("resnet*"), registry.info("resnet50")
        print(f"{time.perf_counter() - start:.3f} s")
        print(*{"tensorflow", "keras", "numpy", "torch", "PIL", "requests"} & set(sys.modules))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    seconds, imported = run.stdout.split("\n")[:2]
    print(f"import, list and info: {seconds}")
    assert imported == ""


# ---- other packages' families

ACME = {
    "family": "acmenet",
    "module": "acme_zoo.builder",
    "formats": "acme_zoo.formats",
    "architectures": {"acmenet_s": {"config": {"depth": 3}, "num_params": 7, "default": "toy"}},
    "cards": {"acmenet_s.toy": {"weights": {"repo": "acme/acmenet_s"}, "license": "mit"}},
}


def distribution(family: str, package: str, cards: str | None) -> dict[str, str]:
    """Files of an installed distribution, whose package says so when it is imported."""
    about = f"{package}-1.0.dist-info"
    files = {
        f"{package}/__init__.py": "print('acme_zoo is imported')\n",
        f"{package}/builder.py": "FAMILY = 'the acme family'\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[zoo.families]\n{family} = {package}\n",
        f"{about}/RECORD": "",
    }
    return files if cards is None else files | {f"{package}/cards.json": cards}


def test_an_installed_package_adds_a_family(tmp_path):
    wheel = tmp_path / "acme_zoo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in distribution("acmenet", "acme_zoo", json.dumps(ACME)).items():
            archive.writestr(name, text)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True, capture_output=True)
    program = f"""
        import sys
        sys.path.insert(0, {str(site)!r})
        from zoo.registry import registry
        print(registry.list_models("acme*"), registry.list_models(family="acmenet"))
        print(registry.info("acmenet_s").weights.repo)
        print(registry.architecture_card("acmenet_s").config)
        print(registry.info("resnet50").name, "acme_zoo" in sys.modules)
        print(registry.import_family("acmenet"))
    """
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == [
        "['acmenet_s.toy'] ['acmenet_s.toy']",
        "acme/acmenet_s",
        "{'depth': 3}",
        "resnet50.a1_in1k False",
        "acme_zoo is imported",
        "the acme family",
    ]


@pytest.mark.parametrize(
    ("family", "cards", "expected"),
    [
        ("acmenet", None, "FileNotFoundError"),
        ("acmenet", "{", "JSONDecodeError"),
        ("acmenet", "[]", "has no architectures, cards, family, formats, module"),
        (
            "acmenet",
            json.dumps({"family": "acmenet"}),
            "has no architectures, cards, formats, module",
        ),
        ("other", json.dumps(ACME), "of the family 'acmenet'; expected 'other'"),
        ("resnet", json.dumps(ACME | {"family": "resnet"}), "a family that is not there yet"),
        (
            "acmenet",
            json.dumps(ACME | {"deprecated": {"resnet50": "acmenet_s"}}),
            "the names resnet50 are already there",
        ),
    ],
)
def test_a_broken_package_warns_and_breaks_nothing(
    fresh, tmp_path, monkeypatch, family, cards, expected
):
    for name, text in distribution(family, "acme_broken", cards).items():
        path = Path(tmp_path, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="zoo goes on without it") as seen:
        assert registry.list_models() == ALL
    assert len(seen) == 1
    assert expected in str(seen[0].message)
    assert registry.info("resnet50").name == "resnet50.a1_in1k"
    assert not registry.is_name("acmenet_s")


def test_a_package_that_is_not_there_warns(fresh, tmp_path, monkeypatch):
    files = distribution("acmenet", "acme_gone", None)
    entry = next(name for name in files if name.endswith("entry_points.txt"))
    (tmp_path / entry).parent.mkdir()
    (tmp_path / entry).write_text(files[entry])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match="there is no package 'acme_gone'"):
        assert registry.list_models() == ALL


# ---- label sets


@pytest.mark.parametrize(
    ("name", "size", "synset", "label"),
    [
        ("imagenet-1k", 1000, "n01440764", "tench, Tinca tinca"),
        ("imagenet-12k", 11821, "n00005787", "benthos"),
        ("imagenet-21k-goog", 21843, "n00004475", "organism, being"),
        ("imagenet-22k", 21841, "n00004475", "organism, being"),
    ],
)
def test_label_sets(name, size, synset, label):
    assert labels.synsets(name)[0] == synset
    assert labels.labels(name)[0] == label
    assert len(labels.labels(name)) == len(set(labels.synsets(name))) == size
    assert all(labels.labels(name))
    assert labels.infer(size) == name
    assert name in labels.names()


def test_unknown_label_sets():
    assert labels.infer(10) is None
    with pytest.raises(UnknownNameError, match=r"no label set 'imagenet1k'; .*'imagenet-1k'"):
        labels.labels("imagenet1k")
