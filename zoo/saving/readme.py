"""The README.md of a model: front matter that hubs read, and a page for people.

Hubs call it a model card. What its author wrote is kept: a field that stands in the front matter,
and a page that does not carry zoo's mark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, OptionError
from zoo.front_matter import load_front_matter, split_front_matter
from zoo.layers.building import learned_weights, named_weights
from zoo.model import Model
from zoo.registry import registry
from zoo.tasks import task_type

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

MARK = "<!-- Written by zoo, which replaces this page as long as this line is in it. -->"
UNTRAINED = "untrained"  # a tag of models with weights that were never trained
_STATISTICS = ("moving_mean", "moving_variance")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an author knows of a model, and the model itself does not.

    Attributes:
        license: an identifier, such as `apache-2.0`; None is the card's.
        datasets: what it was trained on: ids of data sets on the hub, or names.
        metrics: figures by data set, then by name: `{"digits held-out": {"accuracy": 0.995}}`.
        history: values per epoch, by name, as in the `history` of Keras's `fit`.
    """

    license: str | None = None
    datasets: Sequence[str] = ()
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for dataset, figures in self.metrics.items():
            if not isinstance(figures, Mapping):
                raise OptionError(
                    f"metrics gives {figures!r} for {dataset!r}; figures by data set and name were "
                    'expected, such as {"digits held-out": {"accuracy": 0.995}}.'
                )


def readme(
    model: Model,
    address: str,
    facts: Facts | None = None,
    *,
    before: str | None = None,
    whole: bool = True,
) -> str:
    """The README.md of a model.

    Args:
        model: with a card.
        address: what `zoo.load` takes: `org/name`, or a path.
        facts: what the author knows.
        before: the README.md that there is.
        whole: whether the weights are in one file, which timm needs.

    Raises:
        ConfigError: `before` has front matter that cannot be read.
    """
    facts = facts or Facts()
    for_timm = whole and is_in_timm(model)
    data, page = read_front_matter(before or "")
    if is_ours := not page.strip() or MARK in page:
        data.library_name = data.pipeline_tag = None
        data.license = model.record.card.license or data.license
    _fill_in(data, model, address, facts, for_timm)
    if is_ours:
        page = "\n\n".join(_sections(model, address, facts, data, for_timm))
    return f"---\n{data.to_yaml()}\n---\n{page.strip()}\n"


def read_front_matter(text: str) -> tuple[ModelCardData, str]:
    """What stands between the two lines `---` at the top of a README.md, and what follows.

    Raises:
        ConfigError: it is no YAML mapping, or describes results in no known form.
    """
    from huggingface_hub import ModelCardData

    block, page = split_front_matter(text.lstrip("\ufeff \r\n"))
    try:
        return ModelCardData(**load_front_matter(block, "values")), page
    except Exception as error:  # of the YAML parser, or of the client, for results
        raise ConfigError(
            f"The front matter of README.md cannot be read: {error}. Correct what stands between "
            "its two lines '---', or remove the file."
        ) from error


def is_in_timm(model: Model) -> bool:
    """Whether timm has the architecture: its layout, and none that only zoo has."""
    default = registry.info(model.record.card.architecture).weights
    return model.record.layout == "timm" and not (default and default.bundled)


def count_parameters(model: Model) -> int:
    """The parameters that training changes, frozen layers included; no running statistics."""
    weights = named_weights(model).items()
    return sum(math.prod(w.shape) for name, w in weights if not name.endswith(_STATISTICS))


def _fill_in(data: ModelCardData, model: Model, address: str, facts: Facts, for_timm: bool) -> None:
    """Complete the front matter. What the caller states now wins over what stood there."""
    from huggingface_hub import EvalResult

    record = model.record
    license = facts.license or data.license or record.card.license
    data.license = license.lower() if isinstance(license, str) else license
    data.library_name = data.library_name or ("timm" if for_timm else "tfzoo")
    data.pipeline_tag = data.pipeline_tag or record.task
    data.base_model = data.base_model or _base_model(model, address)
    data.datasets = list(facts.datasets) or data.datasets
    tags = [tag for tag in data.tags or () if tag != UNTRAINED]
    tags += ["tfzoo", "keras", record.card.architecture, *([UNTRAINED] if model.fresh else [])]
    data.tags = list(dict.fromkeys(tags))
    if facts.metrics:
        data.metrics = list(dict.fromkeys(n for figures in facts.metrics.values() for n in figures))
        data.model_name = address.rpartition("/")[2]
        data.eval_results = [
            EvalResult(
                task_type=record.task,
                dataset_type=dataset,
                dataset_name=dataset,
                metric_type=name,
                metric_value=float(value),
            )
            for dataset, figures in facts.metrics.items()
            for name, value in figures.items()
        ]


def untrained(model: Model) -> str | None:
    """What was never trained, in a sentence's words; None where all of it was."""
    fresh, weights = model.fresh, learned_weights(model)
    if not fresh:
        return None
    if set(fresh) >= set(weights):
        return f"all of the {len(weights)} weights are random: none was ever trained"
    shown = ", ".join(fresh[:4]) + (f" and {len(fresh) - 4} more" * (len(fresh) > 4))
    return f"{len(fresh)} of {len(weights)} weights were never trained: {shown}"


def _base_model(model: Model, address: str) -> str | None:
    """The hub repo that the weights came from, if it is another, and not all random."""
    report = model.record.report
    if len(model.fresh) == len(learned_weights(model)):
        return None
    return report.source if report.commit and report.source != address else None


# ---------------------------------------------------------------- the page


def _sections(
    model: Model, address: str, facts: Facts, data: ModelCardData, for_timm: bool
) -> list[str]:
    # what was trained by the author, or is still to be trained, is not what the card describes
    others = facts.datasets or facts.history or model.fresh
    description = None if others else model.record.card.description
    sections = [f"# {address.rpartition('/')[2]}", description]
    sections += [_table(("", ""), _about(model, data))]
    if data.eval_results:
        results = [
            (r.dataset_name, r.metric_type, _figure(r.metric_value)) for r in data.eval_results
        ]
        sections += ["## Results", _table(("data set", "metric", "value"), results)]
    if facts.history:
        epochs = zip(*facts.history.values(), strict=True)
        course = [(str(n), *map(_figure, values)) for n, values in enumerate(epochs, 1)]
        sections += ["## Training", _table(("epoch", *facts.history), course)]
    return [section for section in sections if section] + [_usage(model, address, for_timm), MARK]


def _about(model: Model, data: ModelCardData) -> list[tuple[str, str]]:
    record, spec, labels = model.record, model.record.card.preprocessing, model.labels
    datasets = [data.datasets] if isinstance(data.datasets, str) else data.datasets or ()
    commit = f" at commit {record.report.commit}" if record.report.commit else ""
    rows = {
        "Architecture": record.card.architecture,
        "Task": record.task,
        "Parameters": f"{count_parameters(model):,}",
        "Not trained": untrained(model),
        "Input": spec and spec.summary,
        "Classes": labels
        and f"{len(labels)}: {', '.join(labels[:10])}{', ...' * (labels[10:] != ())}",
        "Trained on": ", ".join(datasets),
        "Started from": data.base_model and f"{data.base_model}{commit}",
        "Licence": data.license or "not stated",
    }
    return [(name, str(value)) for name, value in rows.items() if value]


def _usage(model: Model, address: str, for_timm: bool) -> str:
    spec = model.record.card.preprocessing
    task = task_type(model.record.task, spec)
    if model.labels is None and task.headless:  # classes without names cannot be told
        task = task_type(task.headless, spec)
    lines = [f'import zoo\n\nmodel = zoo.load("{address}")\n{task.example}']
    if for_timm:
        kind = "hf-hub" if _REPO.fullmatch(address) else "local-dir"
        lines.append(
            f'import timm\n\nmodel = timm.create_model("{kind}:{address}", pretrained=True).eval()'
        )
    return "## How to use it\n\n" + "\n\n".join(f"```python\n{text}\n```" for text in lines)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    cells = [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | int) else str(value)
