"""Runs the planted faults: `python -m devtools.mutants [--workers N] [WORD…]`.

A word is the name of a fault, a row of the cases (`D3`), or the letter of rows (`D`); without one all faults run. Each
worker has a scratch checkout and a Postgres of its own.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from devtools.mutants import connections, deletions, engine, faults, kubernetes, services
from devtools.mutants.checkout import Checkout, scratch_checkout
from devtools.mutants.fault import Fault, chosen

FAULTS = faults.FAULTS + deletions.FAULTS + connections.FAULTS + engine.FAULTS + services.FAULTS + kubernetes.FAULTS


class Display:
    """A line for each fault that runs, with its seconds, and one above them for each that has ended.

    Where the output is no terminal, a fault's beginning is a line of its own.
    """

    def __init__(self, console: Console) -> None:
        """Shows nothing yet; use `progress` as a context manager."""
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
        )
        self._console = console
        self._lock = threading.Lock()

    def run(self, fault: Fault, checkout: Checkout) -> str:
        """Runs one fault and shows it; answers its problem."""
        title = f"{fault.row:4}{fault.name}"
        task = self.progress.add_task(title)
        if not self._console.is_terminal:
            self._say(f"  begins   {title}")
        began = time.monotonic()
        try:
            problem = checkout.problem_with(fault)
        finally:
            self.progress.remove_task(task)
        self._say(f"  {'SURVIVED' if problem else 'noticed '} {title} ({time.monotonic() - began:.0f} s) {problem}")
        return problem

    def _say(self, line: str) -> None:
        with self._lock:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def main(words: Sequence[str], *, workers: int) -> int:
    """Answers 0 when every fault was noticed by every test that is named for it, 2 for a word that selects none."""
    try:
        planted = chosen(FAULTS, words)
    except ValueError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    console = Console()
    with tempfile.TemporaryDirectory(prefix="nexus-auth-mutants-") as folder, ExitStack() as stack:
        count = max(1, min(workers, len(planted)))
        checkouts = [stack.enter_context(scratch_checkout(Path(folder) / f"checkout-{n}")) for n in range(count)]
        tests = sorted({test for fault in planted for test in fault.tests})
        console.print(f"{len(planted)} faults, {len(tests)} tests; first without a fault …", highlight=False)
        sound, output = checkouts[0].run(tests, processes=count)
        if sound != 0:
            console.print(output, markup=False, highlight=False)
            console.print("mutants: these tests must pass before a fault can turn them red", style="bold red")
            return 1
        problems = _run_all(planted, checkouts, display=Display(console))
    console.print(_table(planted, problems))
    survived = sum(map(bool, problems))
    console.print(f"{len(planted) - survived} passed, {survived} failed", highlight=False)
    return 1 if survived else 0


def _run_all(planted: Sequence[Fault], checkouts: Sequence[Checkout], *, display: Display) -> list[str]:
    """The problem of each fault, in their order; each runs in whatever checkout is free."""
    free: SimpleQueue[Checkout] = SimpleQueue()
    for checkout in checkouts:
        free.put(checkout)

    def run(fault: Fault) -> str:
        checkout = free.get()
        try:
            return display.run(fault, checkout)
        finally:
            free.put(checkout)

    with display.progress, ThreadPoolExecutor(max_workers=len(checkouts)) as threads:
        return list(threads.map(run, planted))


def _table(planted: Sequence[Fault], problems: Sequence[str]) -> Table:
    table = Table("row", "fault", "promise", "noticed by", "", title="Planted faults")
    for fault, problem in zip(planted, problems, strict=True):
        tests = "\n".join(test.rpartition("::")[2] for test in fault.tests)
        answer = "[bold red]SURVIVED[/]" if problem else "[green]noticed[/]"
        table.add_row(fault.row, fault.name, fault.promise, tests, answer)
    return table


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m devtools.mutants")
    parser.add_argument("--workers", type=int, default=2, help="faults that run at once (default 2)")
    parser.add_argument("words", nargs="*", metavar="WORD", help="a fault's name, a row (D3), or its letter (D)")
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    sys.exit(main(given.words, workers=given.workers))
