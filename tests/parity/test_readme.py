"""The README's snippets as they stand there, against a hub on loopback that has those names.

Its models have the sizes of the real ones where a card fixes them, and random weights, which the
reference libraries made; all-MiniLM-L6-v2 and silero_vad are real.
"""

import csv
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from reference import timm, torch
from safetensors.torch import save_file
from sequence_models import AWDLSTM
from synthetic_texts import MINILM, WORDS
from text_models import transformers

import zoo
from zoo.cli import main
from zoo.hub import HubServer, Storage, User
from zoo.weights.handle import Source
from zoo.weights.https import place_of

README = Path(__file__).parents[2] / "README.md"
EXCEPTIONS = {
    "make demo": "it makes an environment of its own; CI runs it",
    "make test": "it runs this very folder's neighbours; CI runs it",
    "zoo hub serve": "it runs until it is interrupted; tests/test_hub_commands.py starts it",
    "export HF_ENDPOINT": "it is about that hub; here HF_ENDPOINT is the hub of this test",
}
TOKEN = "hf_me"
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def blocks():
    """The code of the README in its order: its language, and its text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text("utf-8"), re.M | re.S)


def commands(text):
    """The commands of a shell's block, without the exceptions."""
    lines = [line for line in text.splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(tuple(EXCEPTIONS))]
    words = [shlex.split(line, comments=True) for line in kept]
    for line in words:
        while "&&" in line:
            yield line[: line.index("&&")]
            line = line[line.index("&&") + 1 :]
        yield line


# ---------------------------------------------------------------- what the hub has


def of_timm(name, folder):
    torch.manual_seed(0)
    model = timm.create_model(name)
    timm.models.save_for_hf(model, folder, safe_serialization=True)


def of_transformers(model, folder, special=None):
    model.save_pretrained(folder)
    if special:
        from tokenizers import ByteLevelBPETokenizer

        tokenizer = ByteLevelBPETokenizer()
        tokenizer.train_from_iterator(["the cat sat"], vocab_size=300, special_tokens=[special])
        tokenizer.save_model(str(folder))
    else:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")


def bert(head, **options):
    config = transformers.BertConfig(vocab_size=len(WORDS), **SIZE, **options)
    return getattr(transformers, f"Bert{head}")(config)


def roberta(folder):
    size = SIZE | {"vocab_size": 300, "max_position_embeddings": 514}
    config = transformers.RobertaConfig(**size)
    of_transformers(transformers.RobertaForQuestionAnswering(config), folder, "<s>")
    words = {"bos": "<s>", "cls": "<s>", "pad": "<s>", "sep": "<s>", "unk": "<s>", "mask": "<s>"}
    transformers.RobertaTokenizer.from_pretrained(
        folder, **{f"{name}_token": text for name, text in words.items()}
    ).save_pretrained(folder)


def distilbert(folder):
    config = transformers.DistilBertConfig(
        vocab_size=len(WORDS), dim=32, hidden_dim=32, n_layers=2, n_heads=2
    )
    of_transformers(transformers.DistilBertForSequenceClassification(config), folder)


def gpt2(folder):
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, **ids)
    of_transformers(transformers.GPT2LMHeadModel(config), folder, "<|endoftext|>")


def dinov2(folder):
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    transformers.BitImageProcessorPil(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}
    ).save_pretrained(folder)


REPOS = {
    **{
        zoo.info(name).weights.repo: lambda folder, name=name: of_timm(zoo.info(name).name, folder)
        for name in (
            *("resnet50", "resnet18", "vit_base_patch16_224"),
            *("vit_small_patch14_dinov2", "flexivit_base"),
        )
    },
    "sentence-transformers/all-MiniLM-L6-v2": lambda folder: shutil.copytree(
        MINILM, folder, dirs_exist_ok=True
    ),
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": distilbert,
    "dslim/bert-base-NER": lambda folder: of_transformers(
        bert("ForTokenClassification", id2label={0: "O", 1: "B-PER"}), folder
    ),
    "deepset/roberta-base-squad2": roberta,
    "google-bert/bert-base-uncased": lambda folder: of_transformers(bert("ForMaskedLM"), folder),
    "openai-community/gpt2": gpt2,
    "facebook/dinov2-base": dinov2,
    "org/any-bert-repo": lambda folder: of_transformers(bert("Model"), folder),
}


# ---------------------------------------------------------------- what the reader has


def photo(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(path)


def files_of_the_reader():
    for seed, name in enumerate(("cat.jpg", "dog.png", "rose.jpg", "photos/1.jpg", "photos/2.jpg")):
        photo(Path(name), seed)
    for folder, count in (("flowers", 5), ("flowers_test", 2)):
        for label in ("rose", "tulip"):
            for k in range(count):
                photo(Path(folder, label, f"{k}.jpg"), hash((label, k)) % 1000)
    import wave

    from synthetic_audio import RATE, voice

    samples = voice(np.random.default_rng(0), 2.0)
    with wave.open("talk.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    Path("texts.txt").write_text("A fine film.\nNobody laughed.\n")
    with Path("letters.csv").open("w", newline="") as file:
        rows = [(f"the cat sat {k}", "good") for k in range(6)]
        rows += [(f"where is the dog {k}", "bad") for k in range(6)]
        csv.writer(file).writerows([("text", "label"), *rows])
    of_transformers(bert("Model"), Path("my_bert"))
    options = zoo.info("awd_lstm").config
    torch.manual_seed(0)
    sizes = [options.get(k, d) for k, d in DEFAULTS.items()]
    state = AWDLSTM(*sizes, inside=True).state_dict()
    save_file({k: v.clone() for k, v in state.items()}, "ulmfit.safetensors")


DEFAULTS = {"vocab_size": 60000, "emb_sz": 400, "n_hid": 1152, "n_layers": 3}


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """The reader's folder, with the hub asked by default."""
    storage = Storage(tmp_path / "hub")
    for repo, make in REPOS.items():
        folder = tmp_path / "made" / repo
        folder.mkdir(parents=True)
        make(folder)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        storage.commit(repo, {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths})
        shutil.rmtree(folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", os.environ.get("TF_ENABLE_ONEDNN_OPTS", "0"))
    import silero_vad

    url = zoo.info("silero_vad").weights.url
    place = place_of(url, Source())
    place.parent.mkdir(parents=True)
    shutil.copyfile(Path(silero_vad.__file__).parent / "data" / place.name, place)
    files_of_the_reader()
    with HubServer(storage, tokens={TOKEN: User(name="me", role="write")}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.filterwarnings("default")
def test_the_snippets(reader):
    """One after another, in one folder and one namespace, as a reader would go through them."""
    names = {}
    for language, text in blocks():
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)
            continue
        for words in commands(text):
            assert words[0] == "zoo", words
            done = CliRunner().invoke(main, words[1:], prog_name="zoo")
            unexpected = done.exception
            if unexpected and not isinstance(unexpected, SystemExit):
                raise unexpected
            assert done.exit_code == 0, (words, done.output)
    assert len(names["vectors"]) == 2
    assert {"vectors.npy", "zoo.lock", "run1", "run2", "heat.png", "talk.png"} <= {
        path.name for path in Path().iterdir()
    }


def test_the_exceptions_are_few_and_there():
    text = README.read_text("utf-8")
    assert len(EXCEPTIONS) <= 5
    assert all(f"\n{line}" in text for line in EXCEPTIONS)
    assert len(blocks()) > 10


def test_the_table_of_extras():
    import tomllib

    project = tomllib.loads((README.parent / "pyproject.toml").read_text("utf-8"))["project"]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", README.read_text("utf-8"), re.M)
    assert set(project["optional-dependencies"]) <= set(rows)
