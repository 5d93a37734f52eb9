"""The command line: `zoo VERB ...`, which parses arguments, calls zoo and prints what it gives.

A verb is one module of `zoo.cli.verbs` that holds a `command`; its name is the verb.
"""

from __future__ import annotations

import click

import zoo
from zoo.cli.group import Application

__all__ = ["main"]


@click.group(cls=Application, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(zoo.__version__, prog_name="zoo")
def main() -> None:
    """Pretrained models for TensorFlow and Keras, by name.

    \b
    Examples:
      zoo list 'resnet50*' --license apache-2.0
      zoo info resnet50
      zoo pull resnet50
      zoo predict resnet50 cat.jpg dog.png --top 5
      zoo embed resnet50 photos/ --out vectors.npy

    A model is a name of `zoo list`, a hub repo (org/name[@revision]), or a folder with
    config.json and safetensors, as a path that starts with ./, ../, / or ~.

    With --json, data is all that goes to standard output. Exit codes: 0 done, 1 an error,
    2 wrong usage, 3 a file is not the expected one, 130 interrupted.
    """
