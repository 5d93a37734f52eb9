"""From a name on a hub to labelled pictures: `make demo`. Nothing leaves this machine.

A hub on loopback is started, and the small model that ships with zoo is published there, as to any
hub. It is loaded back, and reads digits that it was not trained on. What it says goes to the
terminal and, as a picture, to `demo_output/predictions.png`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

import zoo
from zoo.cli.models import load  # `zoo.load`, without TensorFlow's remarks
from zoo.hub import HubServer, Storage, User
from zoo.loading.pulling import BUNDLED

if TYPE_CHECKING:
    from zoo.tasks import Prediction

REPO = "zoo/resnet_mini.digits"
TOKEN = "demo"
OUTPUT = Path("demo_output")
NEXT = """
[bold]What to try next[/]
  .venv/bin/zoo predict resnet_mini demo_output/digits/*.png --top 3
  .venv/bin/zoo list 'resnet50*'
  .venv/bin/zoo predict resnet50 your_photo.jpg      [dim]fetches 102 MB, once[/]
  .venv/bin/python -c "import zoo; zoo.load('resnet_mini').summary()"
"""

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    pictures = copy_pictures()
    with tempfile.TemporaryDirectory(prefix="zoo-demo-") as folder:
        model = publish_and_load(Path(folder))
    predictions = [best for [best] in model.classify(pictures, top=1)]
    print_predictions(pictures, predictions)
    sheet = OUTPUT / "predictions.png"
    draw_sheet(pictures, predictions).save(sheet)
    console.print(f"The pictures and what the model says of them: [bold]{sheet}[/]")
    console.print(NEXT)


def copy_pictures() -> list[Path]:
    """Held-out digits as files, named `<digit>-<place in the data set>.png`."""
    folder = OUTPUT / "digits"
    shutil.copytree(BUNDLED / "digits", folder, dirs_exist_ok=True)
    return sorted(folder.glob("*.png"))


def true_digit(picture: Path) -> str:
    return picture.name.partition("-")[0]


def publish_and_load(folder: Path) -> zoo.Model:
    """The model from a hub over HTTP, where it was published, and again from the cache."""
    users = {TOKEN: User(name="zoo", role="write")}
    with HubServer(Storage(folder / "hub"), tokens=users) as hub:
        # The hub's client would ask the public hub a question of its own, and perhaps a proxy.
        os.environ |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "no_proxy": "127.0.0.1"}
        publish(hub)
        for note in ("from the hub", "from the cache"):
            console.print(f'\n[bold]zoo.load("{REPO}", endpoint="{hub.url}")[/]')
            asked, start = len(hub.requests), time.perf_counter()
            model = load(REPO, endpoint=hub.url, cache_dir=folder / "cache", token=False)
            seconds, asked = time.perf_counter() - start, len(hub.requests) - asked
            console.print(f"  {model.load_report}\n  {asked} requests, {seconds:.2f} s {note}")
    return model


def publish(hub: HubServer) -> None:
    """Publish the model that ships with zoo, with the figures of its card."""
    console.print(f'\n[bold]zoo.publish(zoo.load("resnet_mini"), "{REPO}", token=...)[/]')
    figures = {
        "digits held-out": {"top1": zoo.info("resnet_mini").published["digits held-out"]["top1"]}
    }
    model = load("resnet_mini")
    start = time.perf_counter()
    done = zoo.publish(model, REPO, endpoint=hub.url, token=TOKEN, metrics=figures)
    for check in done.report.checks:
        console.print(f"  [green]passed[/] {check.name}: {check.found}")
    console.print(f"  commit {done.commit}, {time.perf_counter() - start:.2f} s")


def print_predictions(pictures: list[Path], predictions: list[Prediction]) -> None:
    table = Table("file", "true digit", "prediction", "score")
    for picture, best in zip(pictures, predictions, strict=True):
        true = true_digit(picture)
        colour = "green" if best.label == true else "red"
        table.add_row(picture.name, true, f"[{colour}]{best.label}[/]", f"{best.score:.1%}")
    known = zoo.info("resnet_mini").published["digits held-out"]
    console.print("", table, summary(pictures, predictions), sep="\n")
    console.print(
        f"Of all {known['examples']} held-out digits it names {known['top1']:.1f}% rightly, "
        f"k-nearest-neighbours {known['knn']:.1f}%."
    )


def summary(pictures: list[Path], predictions: list[Prediction]) -> str:
    right = sum(best.label == true_digit(p) for p, best in zip(pictures, predictions, strict=True))
    return f"{right} of {len(pictures)} held-out digits right ({right / len(pictures):.1%})"


# ---------------------------------------------------------------- the contact sheet, in pixels

DIGIT, FRAME, GAP, CAPTION, HEADER = 88, 5, 16, 40, 88
ROWS = 4
PAPER, INK, FAINT = "#fafafa", "#202124", "#70757a"
RIGHT, WRONG = "#2e9e5b", "#d93025"


def draw_sheet(pictures: list[Path], predictions: list[Prediction]) -> Image.Image:
    """Every picture in a green (right) or red (wrong) frame, over the predicted label and score."""
    width, height = DIGIT + 2 * FRAME + GAP, DIGIT + 2 * FRAME + CAPTION + GAP
    columns = -(-len(pictures) // ROWS)
    sheet = Image.new("RGB", (columns * width + GAP, HEADER + ROWS * height), PAPER)
    draw = ImageDraw.Draw(sheet)
    title = f"{REPO}: {summary(pictures, predictions)}"
    legend = "Under each: the prediction and its score. Green is right, red is wrong."
    draw.text((GAP, 30), title, INK, ImageFont.load_default(24), anchor="lm")
    draw.text((GAP, 60), legend, FAINT, ImageFont.load_default(16), anchor="lm")
    for index, (picture, best) in enumerate(zip(pictures, predictions, strict=True)):
        column, row = divmod(index, ROWS)
        left, top = GAP + column * width, HEADER + row * height
        draw_digit(sheet, draw, (left, top), picture, best)
    return sheet


def draw_digit(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    picture: Path,
    best: Prediction,
) -> None:
    left, top = corner
    edge = DIGIT + 2 * FRAME
    colour = RIGHT if best.label == true_digit(picture) else WRONG
    draw.rounded_rectangle((left, top, left + edge - 1, top + edge - 1), FRAME, colour)
    with Image.open(picture) as digit:
        large = digit.resize((DIGIT, DIGIT), Image.Resampling.NEAREST)
    sheet.paste(large, (left + FRAME, top + FRAME))
    middle = top + edge + CAPTION // 2
    draw.text((left, middle), best.label, colour, ImageFont.load_default(28), anchor="lm")
    score = f"{best.score:.1%}"
    draw.text((left + edge, middle), score, FAINT, ImageFont.load_default(18), anchor="rm")


if __name__ == "__main__":
    main()
