"""Tables of the command line on a terminal: they fit its width, and an id is never broken."""

import io
import re
import sys

import pytest
from rich.cells import cell_len

from services.cli.output import print_table

COLUMNS = ("received", "type", "outcome", "svix id", "object", "details")
ID = "msg_" + "a" * 27
OBJECT = "orgmem_" + "b" * 27
ROW = (
    "2026-11-28T16:43:31.123Z",
    "organizationMembership.created",
    "created",
    ID,
    OBJECT,
    (f"svix_id={ID}", "state=applied", f"cause={'because ' * 20}"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, *, width: int) -> list[str]:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    print_table(COLUMNS, [ROW, ROW], title="Events")
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_table_fits_the_terminal_and_breaks_no_id(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    lines = shown(monkeypatch, width=width)
    assert max(cell_len(line) for line in lines) <= width, "\n".join(lines)
    assert sum(ID in line for line in lines) >= 2
    assert sum(OBJECT in line for line in lines) == 2


def test_what_does_not_fit_is_named_below_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    title, head, first, second, *_ = shown(monkeypatch, width=80)
    assert (title, head.split()) == ("Events", ["received", "type", "outcome"])
    assert first.split() == [ROW[0], ROW[1], ROW[2]]
    assert second.startswith(f"    svix id: {ID}")


def test_a_pipe_gets_one_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, [ROW, ROW])
    assert len(capsys.readouterr().out.splitlines()) == 3
