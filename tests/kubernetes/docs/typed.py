"""`make cluster` as a person has it, and the pages' commands typed into a shell as they are written."""

import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs/kubernetes"
SECONDS = 120.0
POLL_SECONDS = 0.1


class PersonsCluster:
    """`make cluster`, without its make, in a folder of the test's own. Ended by Ctrl-C."""

    def __init__(self, folder: Path) -> None:
        """Starts nothing yet."""
        self.folder = folder
        self.said = ""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "devtools.kubernetes", "--folder", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        watch = threading.Timer(SECONDS, self.process.kill)
        watch.start()
        assert self.process.stdout is not None
        try:
            while "Ctrl-C" not in self.said:
                line = self.process.stdout.readline()
                assert line, self.said
                self.said += line
        finally:
            watch.cancel()
        variables = (self.folder / "env").read_text().replace("export ", "")
        self.env = dict(word.split("=", 1) for word in shlex.split(variables, comments=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(SECONDS) == 0

    def address(self, name: str) -> str:
        """One of the addresses that it has printed."""
        found = re.search(rf"^  {name} +(\S+)", self.said, re.MULTILINE)
        assert found, self.said
        return found[1]

    def typed(self, block: str) -> tuple[str, list[str]]:
        """What a block of commands says, and which of them failed, as `EXIT CODE: COMMAND`."""
        notice = "trap 'echo \"FAILED $?: $BASH_COMMAND\"' ERR"
        done = subprocess.run(
            ["bash", "-c", f". {shlex.quote(str(self.folder / 'env'))}\n{notice}\n{block}"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.stdout, re.findall(r"^FAILED (.*)$", done.stdout, re.MULTILINE)

    def said_by(self, command: str) -> str:
        """What a command says, which must not fail."""
        said, failed = self.typed(command)
        assert failed == [], said
        return said.strip()

    def until(self, command: str, text: str) -> None:
        """Asks until a command says this text."""
        until(lambda: text in self.typed(command)[0], what=f"{command}: {text}")


def until(true: Callable[[], bool], *, what: str) -> None:
    """Asks until it is so."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(POLL_SECONDS)


def blocks(page: str, *, language: str = "sh", heading: str = "") -> list[str]:
    """The fenced blocks of a page, in order; with a heading, only those of its section."""
    text = (PAGES / page).read_text("utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
