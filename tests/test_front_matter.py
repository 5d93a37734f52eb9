"""The front matter of a README.md: what is read of it, and what is refused before it costs much."""

import pytest
import yaml

from zoo.errors import ConfigError
from zoo.front_matter import (
    MAX_SIZE,
    MAX_VALUES,
    load_front_matter,
    split_front_matter,
)

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("readme", "block", "page"),
    [
        ("---\na: 1\n---\npage", "a: 1", "page"),
        ("---\r\na: 1\r\n---\r\npage", "a: 1", "page"),
        ("--- \na: 1\n--- \npage", "a: 1", "page"),
        ("---\na: 1\n---", "a: 1", ""),
        ("---\n---\npage", "", "page"),
        ("---\na: 1\n----\npage", "", "---\na: 1\n----\npage"),
        ("---\na: 1\n", "", "---\na: 1\n"),
        ("page\n---\na: 1\n---\n", "", "page\n---\na: 1\n---\n"),
        ("", "", ""),
    ],
)
def test_where_it_begins_and_ends(readme, block, page):
    assert split_front_matter(readme) == (block, page)


def test_scalars_are_texts_or_values():
    block = "a: 1\nb: [yes, 2024-01-02, null]\nc: &c {d: 1.5}\ne: *c"
    assert load_front_matter(block, "texts") == {
        "a": "1",
        "b": ["yes", "2024-01-02", "null"],
        "c": {"d": "1.5"},
        "e": {"d": "1.5"},
    }
    assert load_front_matter(block, "values") == yaml.safe_load(block)
    assert load_front_matter("", "values") == load_front_matter("# nothing", "texts") == {}


@pytest.mark.parametrize("scalars", ["texts", "values"])
@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("x" * (MAX_SIZE + 1), "at most"),
        ("a: [" + "b," * (MAX_VALUES + 1) + "]", "more than"),
        ("[" * 900, "deeper than"),
        ("\n".join(" " * n + "a:" for n in range(900)), "deeper than"),
        ("- " * 900, "deeper than|no YAML"),
        (LAUGHS, "more than"),
        (MERGES, "more than"),
        ("a: &a [*a]", "stands for nothing"),
        ("a: *b", "stands for nothing"),
        ("a: 1" + ":1" * 100_000, "outside of quotes"),
        ("a: " + "1" * 5000, "outside of quotes"),
        ("- a", "no mapping"),
        ("text", "no mapping"),
        ("a: [", "no YAML"),
        ("a: \0", "no YAML"),
        ("? [a]\n: b", "no YAML"),
        ("a: 1\n--- \nb: 2", "no YAML"),
    ],
)
def test_what_is_refused(block, message, scalars):
    with pytest.raises(ConfigError, match=message):
        load_front_matter(block, scalars)


@pytest.mark.parametrize("block", ["a: 2024-99-99", "a: \ud800", "a: !!python/object:os.system x"])
def test_values_that_are_none(block):
    with pytest.raises(ConfigError, match="no YAML"):
        load_front_matter(block, "values")


def test_line_breaks_without_end():
    """A regular expression that tries every break for the last line would take minutes."""
    assert split_front_matter("---\n" + "\n" * 1_000_000)[0] == ""
    assert split_front_matter("---\n" + "\r\n" * 500_000 + "--")[0] == ""
