"""How the command line behaves as a whole: finding verbs, and what becomes of errors."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import click

from zoo.errors import IntegrityError, LockError, ZooError, did_you_mean

FAILED = 1
MISMATCH = 3
INTERRUPTED = 128 + 2  # as a shell says of SIGINT
BROKEN_PIPE = 128 + 13  # and of SIGPIPE

_DEBUG = "zoo.debug"


class Verb(click.Command):
    """A command that, as each of them, takes `--debug`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(_debug_option())


class Verbs(click.Group):
    """A group that says which verbs are near a wrong one."""

    command_class = Verb

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            names = self.list_commands(ctx)
            near = did_you_mean(args[0], names) or f" There are {', '.join(names)}."
            raise click.UsageError(f"There is no verb {args[0]!r}.{near}", ctx)
        return super().resolve_command(ctx, args)


class Application(Verbs):
    """The group of all verbs: the modules of `zoo.cli.verbs`, imported when they are asked for.

    It turns every fault that can be foreseen into a message on standard error and an exit code.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params.append(_debug_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        folder = Path(__file__).parent / "verbs"
        return sorted(module.name for module in pkgutil.iter_modules([str(folder)]))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        return importlib.import_module(f"zoo.cli.verbs.{name}").command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning  # type: ignore[assignment]
                result = super().invoke(ctx)
            sys.stdout.flush()
        except ZooError as error:
            if ctx.meta.get(_DEBUG):
                traceback.print_exception(error)
            _say("Error", error, "red")
            return ctx.exit(MISMATCH if isinstance(error, IntegrityError | LockError) else FAILED)
        except (KeyboardInterrupt, click.Abort):
            click.echo("\nInterrupted.", err=True)
            return ctx.exit(INTERRUPTED)
        except BrokenPipeError:
            # Nobody reads on. What is still buffered goes nowhere, also when Python exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ctx.exit(BROKEN_PIPE)
        return result


def _debug_option() -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        ctx.meta[_DEBUG] = ctx.meta.get(_DEBUG, False) or value

    return click.Option(
        ["--debug"],
        is_flag=True,
        envvar="ZOO_DEBUG",
        expose_value=False,
        callback=remember,
        help="Show the traceback of an error (or set ZOO_DEBUG=1).",
    )


def _show_warning(message: Warning | str, *_: Any) -> None:
    _say("Warning", message, "yellow")


def _say(kind: str, message: object, colour: str) -> None:
    click.echo(f"{click.style(f'{kind}:', fg=colour, bold=True)} {message}", err=True)
