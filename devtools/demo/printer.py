"""How the story looks: on a terminal coloured, with something that turns while a step runs; in a pipe plain lines."""

import textwrap
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from devtools.demo.story import Step, Told
from devtools.run.output import clean

MARKS = {True: "✔", False: "✘"}
WORDS = {True: "ok", False: "FAILED"}
"""Where the stream's encoding has no such signs."""

NAME_WIDTH = 13
WIDTH = 110
INDENT = 6


class StoryPrinter:
    """Tells a story on one stream."""

    def __init__(self, stream: TextIO) -> None:
        """Prints nothing yet."""
        self._terminal = stream.isatty()
        self._console = Console(file=stream, highlight=False, no_color=not self._terminal, soft_wrap=True)
        self._marks = MARKS if _knows(stream, "".join(MARKS.values())) else WORDS
        self._running: Status | None = None

    def line(self, text: str = "", style: str = "") -> None:
        """A line of its own."""
        self._console.print(Text(text, style=style if self._terminal else ""))

    def waits(self, text: str) -> None:
        """What goes on now; seen on a terminal only, until the next line."""
        self.stops_waiting()
        if self._terminal:
            self._running = self._console.status(Text(text, style="dim"), spinner="line", spinner_style="cyan")
            self._running.start()

    def stops_waiting(self) -> None:
        """Takes that away."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    def begins(self, number: int, step: Step, *, sabotaged: bool) -> None:
        """Says what is tried; before a sabotage, what is done to break it."""
        if sabotaged:
            self.stops_waiting()
            self._wrapped("  SABOTAGE: " + step.sabotage, indent=12, style="yellow")
        self.waits(f"{number} {step.name:<{NAME_WIDTH}}          {step.title}")

    def ended(self, told: Told) -> None:
        """The step's line with its mark and its time, then what was checked."""
        self.stops_waiting()
        well = told.broken is None
        head = Text()
        head.append(f"{self._marks[well]} ", self._style("bold green" if well else "bold red"))
        head.append(f"{told.number} {told.step.name:<{NAME_WIDTH}}", self._style("bold"))
        head.append(f" {told.seconds:5.1f} s  ", self._style("dim"))
        head.append(told.step.title, self._style("bold"))
        self._console.print(head)
        for what in told.held:
            self._wrapped(f"    {self._mark(True)} {what}", indent=INDENT, mark="green")
        if told.broken is not None:
            self._wrapped(f"    {self._mark(False)} {told.broken.what}", indent=INDENT, mark="bold red")
            self._wrapped(f"        expected  {clean(told.broken.expected)}", indent=18)
            self._wrapped(f"        seen      {clean(told.broken.seen)}", indent=18, style="red")

    def ends(self, all_told: Sequence[Told], *, steps: int, seconds: float, sabotage: str | None) -> None:
        """The last word."""
        self.line()
        broken = next((told for told in all_told if told.broken), None)
        if broken is None:
            checks = sum(len(told.held) for told in all_told)
            self.line(f"all {steps} steps held: {checks} checks, {seconds:.1f} s", "bold green")
            self.line(f"A story that cannot fail proves nothing: make demo SABOTAGE={all_told[-1].step.name}", "dim")
            return
        why = " as the sabotage meant it to" if broken.step.name == sabotage else ""
        self.line(f"the story ends at step {broken.number}, {broken.step.name}: it did not hold{why}", "bold red")

    def _mark(self, well: bool) -> str:
        return self._marks[well]

    def _style(self, style: str) -> str:
        return style if self._terminal else ""

    def _wrapped(self, text: str, *, indent: int, style: str = "", mark: str = "") -> None:
        width = min(self._console.width, WIDTH) if self._terminal else WIDTH
        for number, line in enumerate(
            textwrap.wrap(
                text, max(width, 40), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
            )
        ):
            written = Text(line, style=self._style(style))
            if mark and not number:
                start = len(line) - len(line.lstrip())
                written.stylize(self._style(mark), start, start + len(line.split()[0]))
            self._console.print(written)


def _knows(stream: TextIO, signs: str) -> bool:
    try:
        signs.encode(getattr(stream, "encoding", None) or "utf-8")
    except (LookupError, UnicodeEncodeError):
        return False
    return True
