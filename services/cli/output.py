"""How results look: tables for people, JSON for programs. Results go to standard output, all else to standard error.

What came from outside is shown without control characters: a name that somebody chose must not steer a terminal.
"""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 1_000
"""Columns where nobody looks: lines are not broken for a program."""


def printable(value: object, *, lines: bool = False) -> str:
    """Text in which control, format and private characters are written as escapes; `lines` keeps line breaks."""
    kept = "\n" if lines else ""
    return "".join(
        character
        if character in kept or unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape").decode("ascii")
        for character in ("" if value is None else str(value))
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """A table on standard output; cells are plain text, or a `Text` that has been made printable, and stay whole.

    An id in two pieces cannot be copied: a terminal that is too narrow breaks the lines itself, as it does for kubectl.
    """
    console = _console()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD if console.is_terminal else None)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    wide = console.options.update(max_width=PIPED_WIDTH)
    console.width = max(console.width, console.measure(table, options=wide).maximum)
    console.print(table)


def print_pairs(pairs: Iterable[tuple[str, object]], *, title: str) -> None:
    """Names and values, one pair a line, under a title; values that are None are left out."""
    console = _console()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", no_wrap=not console.is_terminal)
    for name, value in pairs:
        if value is not None:
            table.add_row(Text(name, style="dim"), Text(printable(value)))
    console.print(Text(title, style="bold"))
    console.print(table)


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=True, default=float))


def tell(sentence: str) -> None:
    """A line for the person in front of it, beside the results."""
    click.echo(printable(sentence), err=True)


def _console() -> Console:
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)
