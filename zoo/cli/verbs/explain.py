"""`zoo explain`: where a network looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.group import FAILED, Verb
from zoo.cli.images import Images, progress
from zoo.cli.models import find_card, load
from zoo.cli.options import FILE, check_writable, json_option, model_options, source_options
from zoo.cli.output import number, print_json, print_table
from zoo.errors import InputError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from zoo.model import Model
    from zoo.tasks.explaining import Explanation

MOST = 40  # pictures in a figure
_EDGE = 1000  # pixels of a picture as it is drawn, at most


@click.command("explain", cls=Verb)
@click.argument("name")
@click.argument("inputs", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--out",
    type=FILE,
    metavar="FILE.png",
    required=True,
    help="Draw into this file; its suffix says how: png, jpg, pdf, svg ...",
)
@click.option(
    "--method",
    metavar="NAME",
    help="grad-cam (convolutional networks) or attention-rollout (Vision Transformers) "
    "[default: what suits the model].",
)
@click.option(
    "--target",
    metavar="CLASS",
    help="Label or index of the class to explain (grad-cam) [default: the most probable one].",
)
@model_options
@source_options()
@json_option(
    "an array of objects with image, method, label, index and score of the class (0 to 1; null "
    "where there is none), box (left, top, right and bottom of the part of the picture that the "
    "model saw, in pixels) and peak (x and y of the greatest heat, in pixels)"
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    inputs: tuple[str, ...],
    out: Path,
    method: str | None,
    target: str | None,
    batch_size: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw where a network looks.

    Each picture is drawn twice, as it is and under a heat map of what speaks for its class
    (Grad-CAM) or of the patches that were attended to (attention rollout). The part of the picture
    that preprocessing cuts off is pale: the network did not see it.

    IMAGE is a file, an https address, or a folder, which stands for the images that lie in it.
    Several images become rows of one figure, 40 at most. One that cannot be read is reported and
    the others are drawn; the exit code is then 1.

    \b
    Examples:
      zoo explain resnet50 cat.jpg --out heatmap.png
      zoo explain resnet50 cat.jpg --target "tabby" --out tabby.png
      zoo explain deit_tiny_patch16_224 photos/ --out rows.pdf --json
    """
    find_card(name, options)  # a wrong name is said before matplotlib is imported
    _check_out(out)
    chosen = Images(inputs)
    if len(chosen.names) > MOST:
        raise OptionError(
            f"{number(len(chosen.names), 'image')} were given; a figure has {MOST} at most. Give "
            "fewer at a time."
        )
    found: list[tuple[str, Finding]] = []
    if chosen.names:
        model = load(name, **options)
        asked: dict[str, Any] = {
            "method": method,
            "target": _target(model, target),
            "batch_size": batch_size,
        }
        model.explain([], **asked)  # what is wrong with these is said before files are read
        results = chosen.through(lambda names: _explain(model, names, asked), batch_size)
        found = list(progress(results, len(chosen.names)))
    if found:
        _draw(found, out)
    if as_json:
        print_json([{"image": image} | finding.data() for image, finding in found])
    elif found:
        _show(found)
        click.echo(f"\n{out}: {number(len(found), 'image')}")
    if chosen.failed:
        ctx.exit(FAILED)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found out about a picture.

    Attributes:
        pixels: the picture as it is drawn, from 0 to 1, `[h, w, 3]`.
        size: its own width and height, in pixels.
        box: left, top, right and bottom of what the model saw of it, in pixels.
        explanation: what the model looked at.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    box: tuple[float, float, float, float]
    explanation: Explanation

    def data(self) -> dict[str, Any]:
        """All but the pixels, as JSON data."""
        facts = {k: getattr(self.explanation, k) for k in ("method", "label", "index", "score")}
        return facts | {"box": self.box, "peak": self.peak}

    @property
    def peak(self) -> tuple[float, float]:
        """Where the heat is greatest, in pixels from the left and from the top."""
        import numpy as np

        heat = self.explanation.heatmap
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        left, top, right, bottom = self.box
        across, down = (right - left) / heat.shape[1], (bottom - top) / heat.shape[0]
        return left + (float(x) + 0.5) * across, top + (float(y) + 0.5) * down


def _check_out(out: Path) -> None:
    """Refuse what cannot be drawn or written before the work, not after it."""
    from zoo.figures import check_format, require_matplotlib

    check_writable(out)
    require_matplotlib()
    try:
        check_format(out)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="--out") from error


def _target(model: Model, text: str | None) -> str | int | None:
    """Digits are the index of a class, unless they are a label."""
    if text is None or text in (model.labels or ()) or not text.isdecimal():
        return text
    return int(text)


def _explain(model: Model, names: list[str], asked: Mapping[str, Any]) -> list[Finding]:
    from zoo.tasks.explaining import seen_box

    preprocess = model.preprocess
    pictures = [preprocess.read(name, f"The image, {name!r},") for name in names]
    explanations = model.explain(pictures, **asked)
    return [
        Finding(
            pixels=_pixels(picture),
            size=picture.size,
            box=seen_box(preprocess.spec, *picture.size),
            explanation=explanation,
        )
        for picture, explanation in zip(pictures, explanations, strict=True)
    ]


def _pixels(picture: Image.Image) -> np.ndarray:
    """The whole picture from 0 to 1, `[h, w, 3]`, made smaller where it is large."""
    from zoo.preprocessing.image import ImagePreprocessor
    from zoo.preprocessing.spec import ImageSpec

    share = min(1.0, _EDGE / max(picture.size))
    width, height = (max(round(share * edge), 1) for edge in picture.size)
    plain = ImageSpec(
        input_size=(height, width),
        crop_pct=1.0,
        crop_mode="squash",
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        alpha="white",
    )
    return ImagePreprocessor(plain)(picture)[0]


def _draw(found: list[tuple[str, Finding]], out: Path) -> None:
    from zoo.cli.plots import HeatRow, heat_figure
    from zoo.figures import save_figure

    rows = [
        HeatRow(
            pixels=finding.pixels,
            size=finding.size,
            box=finding.box,
            heatmap=finding.explanation.heatmap,
            title=_title(image, finding.explanation),
        )
        for image, finding in found
    ]
    save_figure(heat_figure(rows), out)


def _title(image: str, explanation: Explanation) -> str:
    name = click.format_filename(image, shorten=True)
    if explanation.score is None:
        return f"{name}: features ({explanation.method})"
    what = explanation.label or f"class {explanation.index}"
    return f"{name}: {what}, {100 * explanation.score:.1f} % ({explanation.method})"


def _show(found: list[tuple[str, Finding]]) -> None:
    rows = []
    for image, finding in found:
        e = finding.explanation
        score = None if e.score is None else f"{100 * e.score:6.2f} %"
        rows.append((click.format_filename(image), e.method, score, e.index, e.label))
    print_table(("image", "method", "score", "index", "label"), rows, right=["score", "index"])
