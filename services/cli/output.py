"""How results look: tables for people, JSON for programs. Results go to standard output, all else to standard error.

Text from outside is shown without control characters: a name that somebody chose must not steer a terminal.
"""

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 1_000
"""Columns where no terminal is: lines are not broken for a program."""

GAP = 2
"""Blanks between two columns, and between two folded values."""

INDENT = 4
"""Blanks before what is folded below its row."""

Cell = object
"""A value, a `Text` that has been made printable, or a tuple of them: values that may be folded one by one."""


class OutputFailed(click.ClickException):
    """Standard output takes no more, for example because a disk is full."""

    exit_code = 1


def printable(value: object, *, lines: bool = False) -> str:
    """Text in which control, format and private characters are written as escapes; `lines` keeps line breaks."""
    kept = "\n" if lines else ""
    return "".join(
        character
        if character in kept or unicodedata.category(character)[0] != "C"
        else character.encode("unicode_escape").decode("ascii")
        for character in ("" if value is None else str(value))
    )


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, title: str | None = None) -> None:
    """A table on standard output that fits the terminal.

    The leading columns that fit stay a table. Where others do not fit, each row continues below itself with
    `name: value` for the rest, indented. An id is never broken unless it is longer than a line. A pipe gets one line
    for each row.
    """
    console = _console()
    cells = [[_parts(cell) for cell in row] for row in rows]
    widths = [max((cell_len(_joined(row[number]).plain) for row in cells), default=0) for number in range(len(columns))]
    widths = [max(width, cell_len(name)) for width, name in zip(widths, columns, strict=True)]
    shown = _that_fit(widths, console.width)
    with written():
        if title is not None:
            console.print(Text(title, style="bold"))
        console.print(_line([Text(name, style="bold") for name in columns[:shown]], widths))
        for row in cells:
            console.print(_line([_joined(parts) for parts in row[:shown]], widths), soft_wrap=True)
            folded = [
                Text.assemble((f"{name}: ", "dim"), part) if number == 0 else part
                for name, parts in zip(columns[shown:], row[shown:], strict=True)
                for number, part in enumerate(parts)
            ]
            for line in _packed(folded, console.width - INDENT):
                console.print(Padding(line, (0, 0, 0, INDENT), expand=False))


def print_pairs(pairs: Iterable[tuple[str, object]], *, title: str) -> None:
    """Names and values, one pair a line, under a title; values that are None are left out."""
    console = _console()
    table = Table.grid(padding=(0, GAP))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", no_wrap=not console.is_terminal)
    for name, value in pairs:
        if value is not None:
            table.add_row(Text(name, style="dim"), Text(printable(value)))
    with written():
        console.print(Text(title, style="bold"))
        console.print(table)


def print_lines(rows: Iterable[Sequence[Cell]]) -> None:
    """Rows without a heading, whose last cell is a sentence: on a terminal it is wrapped below itself."""
    console = _console()
    lines = [[_joined(_parts(cell)) for cell in row] for row in rows]
    widths = [max(cell_len(cell.plain) for cell in column) for column in zip(*lines, strict=True)]
    table = Table.grid(padding=(0, GAP))
    for number in range(len(widths)):
        table.add_column(no_wrap=number < len(widths) - 1, overflow="fold")
    with written():
        for line in lines:
            if console.is_terminal:
                table.add_row(*line)
            else:
                console.print(_line(line, widths), soft_wrap=True)
        if console.is_terminal:
            console.print(table)


def print_json(value: Any) -> None:
    """One JSON document."""
    say(json.dumps(value, indent=2, ensure_ascii=True, default=float))


def say(text: str) -> None:
    """Text on standard output, as it is."""
    with written():
        click.echo(text)


def say_bytes(data: bytes) -> None:
    """Bytes on standard output, as they are."""
    with written():
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def tell(sentence: str) -> None:
    """A line for the person in front of it, beside the results."""
    click.echo(printable(sentence), err=True)


@contextmanager
def written() -> Iterator[None]:
    """Raises `OutputFailed` where standard output takes no more; BrokenPipeError where its reader left (`| head`)."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard()
        raise OutputFailed(f"standard output cannot be written ({error.strerror or type(error).__name__})") from None


def _discard() -> None:
    """What Python still holds for standard output would fail once more when the process ends."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _console() -> Console:
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def _parts(cell: Cell) -> list[Text]:
    parts = cell if isinstance(cell, tuple) else (cell,)
    texts = (part if isinstance(part, Text) else Text(printable(part)) for part in parts)
    return [text for text in texts if text.plain]


def _joined(parts: Sequence[Text]) -> Text:
    return Text(" " * GAP).join(parts)


def _that_fit(widths: Sequence[int], width: int) -> int:
    """How many leading columns fit into a line, at least one."""
    used = 0
    for number, column in enumerate(widths):
        used += column + (GAP if number else 0)
        if used > width:
            return max(1, number)
    return len(widths)


def _line(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=False, overflow="fold")
    for number, cell in enumerate(cells):
        line.append_text(cell)
        if number < len(cells) - 1:
            line.append(" " * (widths[number] - cell_len(cell.plain) + GAP))
    return line


def _packed(texts: Sequence[Text], width: int) -> list[Text]:
    """The texts, as many on each line as fit; one that is longer than a line has lines of its own."""
    lines: list[Text] = []
    for text in texts:
        if lines and cell_len(lines[-1].plain) + GAP + cell_len(text.plain) <= width:
            lines[-1].append(" " * GAP).append_text(text)
        else:
            text.overflow = "fold"
            lines.append(text)
    return lines
