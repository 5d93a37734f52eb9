"""`zoo generate`: text that goes on."""

from __future__ import annotations

from typing import Any

import click

from zoo.cli.group import Verb
from zoo.cli.models import load
from zoo.cli.options import WEIGHTS, json_option, source_options
from zoo.cli.output import print_json


@click.command("generate", cls=Verb)
@click.argument("name")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(0),
    default=200,
    show_default=True,
    help="Tokens to add at most; characters, for a model that reads those.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.8,
    show_default=True,
    help="Less is more predictable; 0 takes the most probable token each time.",
)
@click.option("--top-k", type=click.IntRange(1), help="Draw from this many tokens alone.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="Draw from the most probable tokens that together have this probability.",
)
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Above 1, what stands in the text already comes less.",
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; repeatable.")
@click.option("--seed", type=int, help="The same seed gives the same text.")
@click.option("--dtype", help="Keras dtype policy; auto is the file's own [default: float32].")
@WEIGHTS
@source_options()
@json_option("an array of objects with prompt and text")
def command(
    name: str,
    prompts: tuple[str, ...],
    as_json: bool,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    repetition_penalty: float,
    stop: tuple[str, ...],
    seed: int | None,
    **options: Any,
) -> None:
    """Go on with a text. It appears as it comes, after its prompt.

    PROMPT is a text; several are taken one after another.

    \b
    Examples:
      zoo generate gpt2 "Once upon a time" --top-k 50
      zoo generate lstm_lm_mini.pydoc "Return the "
      zoo generate lstm_lm_mini.pydoc "Raise " --seed 1 --stop "." --json
    """
    model = load(name, **options)
    choices: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "stop": stop,
        "seed": seed,
    }
    if as_json:
        texts = model.generate(list(prompts), **choices)
        pairs = zip(prompts, texts, strict=True)
        print_json([{"prompt": prompt, "text": text} for prompt, text in pairs])
        return
    from zoo.tasks.sampling import seeds

    each = seeds(choices.pop("seed"), len(prompts))
    for number, prompt in enumerate(prompts):
        pieces = model.stream(prompt, seed=each[number], **choices)
        click.echo("\n" * (number > 0) + click.style(prompt, bold=True), nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()
