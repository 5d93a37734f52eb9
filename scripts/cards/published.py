"""Published accuracies of timm's models, quoted from the results tables of its repository."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference import timm

RESULTS = {"imagenet-1k": "results/results-imagenet.csv"}
REPOSITORY = "https://github.com/huggingface/pytorch-image-models"


@dataclass(frozen=True)
class Published:
    """Quoted figures: test -> address of its table, and card -> test -> figures."""

    sources: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Mapping[str, Any]]]


def read(checkout: Path) -> Published:
    """The results tables at HEAD of a checkout of timm's repository, bare or not."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    commit = git("rev-parse", "HEAD").strip()
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for test, path in RESULTS.items():
        for row in csv.DictReader(io.StringIO(git("show", f"HEAD:{path}"))):
            cfg = timm.get_pretrained_cfg(row["model"], allow_unregistered=False)
            if cfg is None:
                continue
            measured: dict[str, Any] = {k: float(row[k]) for k in ("top1", "top5")}
            measured["img_size"] = int(row["img_size"])
            measured["crop_pct"] = float(row["crop_pct"])
            measured["interpolation"] = row["interpolation"]
            own = all(measured[k] == v for k, v in own_setting(cfg).items())
            key = test if own else f"{test}@{measured['img_size']}"
            figures.setdefault(row["model"], {})[key] = measured
    figures = {card: dict(sorted(tests.items())) for card, tests in figures.items()}
    sources = {test: f"{REPOSITORY}/blob/{commit}/{path}" for test, path in RESULTS.items()}
    return Published(sources, figures)


def own_setting(cfg: Any) -> dict[str, Any]:
    """The evaluation setting that a card states, in the columns of the results tables."""
    return {
        "img_size": cfg.input_size[-1],
        "crop_pct": round(cfg.crop_pct, 3),
        "interpolation": cfg.interpolation,
    }


def keep(path: Path) -> Published:
    """The figures that a file of cards already has."""
    data = json.loads(path.read_text("utf-8")) if path.exists() else {}
    cards = data.get("cards", {})
    figures = {name: card["published"] for name, card in cards.items() if "published" in card}
    return Published(data.get("published_source", {}), figures)
