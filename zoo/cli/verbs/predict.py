"""`zoo predict`: what is on images, what texts say, and where people speak in recordings."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from zoo.cli import texts
from zoo.cli.group import FAILED, Verb
from zoo.cli.images import Images, Inputs, Recordings, progress
from zoo.cli.models import find_card, load
from zoo.cli.options import FILE, check_writable, json_option, model_options, source_options
from zoo.cli.output import number, print_json, print_table
from zoo.errors import InputError, NotFoundError, OptionError, TaskError
from zoo.weights.disk import replacing

if TYPE_CHECKING:
    from zoo.model import Model
    from zoo.registry.card import ModelCard

Results = Iterator[tuple[str, Any]]
_AT_ONCE = 16  # batches for one call, so that pictures are decoded while the model runs


@click.command("predict", cls=Verb)
@click.argument("name")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option(
    "--batch",
    type=click.Path(exists=True, file_okay=False),
    metavar="FOLDER",
    help="The images of a folder, many at a time, into the table of --out.",
)
@click.option("--out", type=FILE, metavar="FILE.csv", help="Table that --batch writes.")
@click.option("--input", "lines", type=FILE, metavar="FILE", help="Texts, one per line.")
@click.option("--context", type=FILE, metavar="FILE", help="Text that answers are looked for in.")
@click.option(
    "--top",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Classes of each image or text, tokens for a mask, answers.",
)
@click.option("--labels", type=FILE, metavar="FILE", help="Names of the classes, one per line.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Probability from which a window is speech (recordings).",
)
@click.option(
    "--plot", type=FILE, metavar="FILE.png", help="Draw a recording and its speech into this file."
)
@model_options
@source_options()
@json_option(
    "an array of objects with image (or text) and predictions, an array of objects with label, "
    "index and score (0 to 1), best first; of recordings, with recording, seconds and segments, an "
    "array of objects with start and end in seconds; of texts, with text and entities (label, "
    "start, end, text, score), fillings (token, index, score, text) or answers (text, start, end, "
    "score; an empty text says that there is no answer)"
)
@click.pass_context
def command(
    ctx: click.Context,
    name: str,
    inputs: tuple[str, ...],
    batch: str | None,
    out: Path | None,
    lines: Path | None,
    labels: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what is on images or in texts, or where people speak.

    INPUT is a file, an https address (of an image), or a folder, which stands for the images or
    WAV files that lie in it. One that cannot be read is reported and the others go on; the exit
    code is then 1. For a model of texts, INPUT is a text: to classify, to find entities in, with a
    mask to fill, or a question about --context.

    \b
    Examples:
      zoo predict resnet50 cat.jpg dog.png
      zoo predict resnet50 photos/ --top 1 --json > predictions.json
      zoo predict ./my_checkpoint photo.jpg --labels classes.txt
      zoo predict resnet50 --batch photos/ --out predictions.csv
      zoo predict silero_vad talk.wav --plot talk.png
      zoo predict distilbert-base-uncased-finetuned-sst-2-english "A fine film."
      zoo predict bert-base-ner --input letters.txt --json
      zoo predict roberta-base-squad2 "Who wrote it?" --context book.txt
    """
    inputs = inputs if lines is None else (*inputs, *texts.read_lines(lines))
    _check_arguments(inputs, batch, out, as_json)
    own = {key: options.pop(key) for key in ("top", "threshold", "plot", "batch_size", "context")}
    card = find_card(name, options)
    kind = _kind_of(card)
    if batch is not None and out is not None:
        failed = _write_table(name, batch, out, own, kind, partial(_load, name, labels, options))
        ctx.exit(FAILED if failed else 0)
    _refuse_options(ctx, kind, card)
    chosen = kind.media(inputs)
    results: Results = iter(())
    if chosen.names:
        results = kind.run(_load(name, labels, options), chosen, own)
    if as_json:
        noun = kind.media.noun
        waiting = progress(results, len(chosen.names), noun)
        print_json([{noun: name} | kind.data(result) for name, result in waiting])
    else:
        for name, result in results:
            click.echo(click.style(click.format_filename(name), bold=True))
            kind.show(result)
            click.echo()
    if chosen.failed:
        ctx.exit(FAILED)


def _check_arguments(
    inputs: tuple[str, ...], batch: str | None, out: Path | None, as_json: bool
) -> None:
    if (batch is None) != (out is None):
        raise click.UsageError("--batch and --out go together: a folder, and the table to write.")
    if batch is None and not inputs:
        raise click.UsageError("Missing argument 'INPUT...', or --batch FOLDER --out FILE.csv.")
    if batch is not None and inputs:
        raise click.UsageError("INPUT... and --batch do not go together.")
    if out is not None:
        if as_json:
            raise click.UsageError("--out writes a table; leave out --json.")
        check_writable(out)


def _write_table(
    name: str,
    folder: str,
    out: Path,
    own: Mapping[str, Any],
    kind: Kind,
    load_model: Callable[[], Model],
) -> int:
    """Write what is on the images of a folder. Returns how many could not be read.

    Raises:
        InputError: none could; nothing is written then.
    """
    if kind is not IMAGES:
        raise OptionError(f"--batch is for images, which {name!r} does not read.")
    images, size = Images([folder]), own["batch_size"]
    if not images.names:
        return images.failed
    verb = partial(load_model().classify, top=own["top"], batch_size=size)
    written = 0
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("image", "rank", "label", "index", "score"))
        results = images.through(verb, size, at_once=_AT_ONCE)
        for image, predictions in progress(results, len(images.names)):
            for rank, p in enumerate(predictions, 1):
                table.writerow((image, rank, p.label, p.index, f"{p.score:.6f}"))
            written += 1
        if not written:
            raise InputError(f"None of the images of {folder} can be read; {out} was not written.")
    click.echo(f"{out}: {number(written, 'image')}")
    return images.failed


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the verb does with the models of one task.

    Attributes:
        media: the kind of files that they take.
        options: those of the command that are for this task.
        run: from a model, its inputs and these options to the results.
        data: a result as JSON data.
        show: prints a result for people.
    """

    media: type[Inputs]
    options: frozenset[str]
    run: Callable[[Model, Inputs, Mapping[str, Any]], Results]
    data: Callable[[Any], dict[str, Any]]
    show: Callable[[Any], None]


# ---------------------------------------------------------------- images


def _classify(model: Model, images: Inputs, options: Mapping[str, Any]) -> Results:
    verb = partial(model.classify, top=options["top"], batch_size=options["batch_size"])
    return images.through(verb, options["batch_size"])


def _show_classes(predictions: list[Any]) -> None:
    rows = [(f"{100 * p.score:6.2f} %", p.index, p.label) for p in predictions]
    print_table(("score", "index", "label"), rows, right=["score", "index"])


IMAGES = Kind(
    media=Images,
    options=frozenset({"top", "labels", "batch_size"}),
    run=_classify,
    data=lambda predictions: {"predictions": list(map(asdict, predictions))},
    show=_show_classes,
)


# ---------------------------------------------------------------- recordings


@dataclass(frozen=True, kw_only=True)
class _Speech:
    """Speech in one recording; times in seconds."""

    seconds: float
    segments: list[Any]


def _find_speech(model: Model, recordings: Inputs, options: Mapping[str, Any]) -> Results:
    from zoo.figures import require_matplotlib

    plot, threshold = options["plot"], options["threshold"]
    if plot is not None:
        require_matplotlib()
        if len(recordings.names) > 1:
            found = len(recordings.names)
            raise OptionError(f"--plot draws one recording; {found} were given.")

    def one(names: list[str]) -> list[_Speech]:
        (name,) = names
        return [_speech(model, name, threshold, plot)]

    return recordings.through(one, 1)


def _speech(model: Model, name: str, threshold: float, plot: Path | None) -> _Speech:
    from zoo.cli.plots import speech_figure
    from zoo.figures import save_figure

    task: Any = model.task
    spec = model.preprocess.spec
    samples = model.preprocess.read(name)
    probabilities = task.speech_probabilities(samples)
    segments = task.find_segments(probabilities, len(samples), threshold=threshold)
    if plot is not None:
        figure = speech_figure(
            samples,
            probabilities,
            segments,
            sampling_rate=spec.sampling_rate,
            window=spec.window,
            threshold=threshold,
            title=click.format_filename(name, shorten=True),
        )
        save_figure(figure, plot)
    return _Speech(seconds=len(samples) / spec.sampling_rate, segments=segments)


def _show_speech(speech: _Speech) -> None:
    rows = [(f"{s.start:.2f}", f"{s.end:.2f}", f"{s.end - s.start:.2f}") for s in speech.segments]
    if rows:
        print_table(("start", "end", "seconds"), rows, right=["start", "end", "seconds"])
    total = sum(s.end - s.start for s in speech.segments)
    click.echo(f"speech in {total:.2f} of {speech.seconds:.2f} seconds")


RECORDINGS = Kind(
    media=Recordings,
    options=frozenset({"threshold", "plot"}),
    run=_find_speech,
    data=asdict,
    show=_show_speech,
)

# ---------------------------------------------------------------- texts


def _of_texts(verb: texts.Verb, name: str, show: Callable[[Any], None], *options: str) -> Kind:
    """What is done with texts.

    Args:
        name: of the results in JSON data.
        options: of the command, besides those of all texts.
    """

    def run(model: Model, chosen: Inputs, own: Mapping[str, Any]) -> Results:
        return chosen.through(verb(model, own), own["batch_size"], at_once=texts.AT_ONCE)

    return Kind(
        media=texts.Texts,
        options=frozenset({"lines", "batch_size", *options}),
        run=run,
        data=lambda found: {name: texts.data(found)},
        show=show,
    )


KINDS = {
    "image-classification": IMAGES,
    "voice-activity-detection": RECORDINGS,
    "text-classification": _of_texts(texts.classify, "predictions", _show_classes, "top", "labels"),
    "token-classification": _of_texts(texts.entities, "entities", texts.show_entities, "labels"),
    "fill-mask": _of_texts(texts.fill, "fillings", texts.show_fillings, "top"),
    "question-answering": _of_texts(texts.answer, "answers", texts.show_answers, "top", "context"),
}


# ---------------------------------------------------------------- arguments


def _kind_of(card: ModelCard) -> Kind:
    """What the verb does with a model.

    Raises:
        TaskError: the verb does nothing with models of its task.
    """
    if card.task not in KINDS and not card.task.startswith("image"):
        other = _OTHER_VERBS.get(card.task, "its verbs in Python are in model.task.verbs")
        raise TaskError(
            f"`zoo predict` does nothing with models that do {card.task}, such as {card.name!r}: "
            f"{other}."
        )
    return KINDS.get(card.task, IMAGES)


_OTHER_VERBS = {
    "text-generation": "`zoo generate` goes on with a text",
    "feature-extraction": "`zoo embed` turns texts into vectors",
    "sentence-similarity": "`zoo embed` turns texts into vectors",
    "sequence-classification": "in Python there is model.classify",
    "time-series-forecasting": "in Python there is model.forecast",
}


def _refuse_options(ctx: click.Context, kind: Kind, card: ModelCard) -> None:
    """Options of another kind were given to no effect: say so."""
    for option in sorted(set().union(*(k.options for k in KINDS.values())) - kind.options):
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            flag = "input" if option == "lines" else option.replace("_", "-")
            raise OptionError(
                f"--{flag} is not for models that do {card.task}, such as {card.name!r}."
            )


def _load(name: str, labels: Path | None, options: Mapping[str, Any]) -> Model:
    names = None if labels is None else _read_labels(labels)
    model = load(name, labels=names, **options)
    if names and model.load_report and model.load_report.fresh:
        raise OptionError(
            f"{labels} names {len(names)} classes, and the head of {name} has another number. "
            "Nothing was predicted: a new head would know nothing."
        )
    return model


def _read_labels(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise NotFoundError(f"--labels {path}: there is no such file.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--labels {path} cannot be read as a text of one class per line: {error}."
        ) from error
