"""A service as a part of the run: started early, told its settings later, and started again whenever it dies.

None of them keeps anything that Postgres does not have, so a restart loses nothing.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from devtools.run import said
from devtools.run.output import Output
from devtools.run.parts import Part

EXIT_CONFIGURATION = 78
"""Their exit code where starting again will not help."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further start; the last one stays."""

SETTLED_SECONDS = 60.0
"""Who ran so long begins with the shortest pause again."""


class Service(ABC):
    """One service on the same ports, whichever process it is at the moment."""

    def __init__(self, name: str, package: str, *, output: Output) -> None:
        """Starts nothing yet."""
        self.name = name
        self._package = package
        self._output = output
        self._environment: Mapping[str, str] = {}
        self._part: Part | None = None
        self._deaths = 0
        """One after the other, without a settled time between."""

    async def warm_up(self) -> None:
        """Starts the process, which imports its libraries and waits for `begin`."""
        self._part = await Part.start(self.name, self._package, heard=self._heard)

    def begin(self, environment: Mapping[str, str]) -> None:
        """Lets it run."""
        assert self._part is not None
        self._environment = dict(environment)
        self._part.begin(self._environment)

    async def until_ready(self) -> None:
        """Returns when it says that it works. Raises `PartFailed`."""
        assert self._part is not None
        await self._part.until_ready()

    async def keep(self) -> None:
        """Starts it again each time it dies; raises `PartFailed` where that cannot help."""
        while True:
            assert self._part is not None
            began = time.monotonic()
            failure = await self._part.ended()
            if self._part.exit_code == EXIT_CONFIGURATION:
                raise failure
            self._deaths = 1 if time.monotonic() - began > SETTLED_SECONDS else self._deaths + 1
            pause = PAUSES[min(self._deaths, len(PAUSES)) - 1]
            for pieces in said.failure_lines(failure, then=f"it is started again in {pause:g} s"):
                self._output.line(*pieces)
            await asyncio.sleep(pause)
            await self.warm_up()
            self._part.begin(self._environment)

    async def stop(self) -> None:
        """Lets it finish what it accepted, and ends it."""
        if self._part is not None:
            await self._part.stop()

    @abstractmethod
    def _said(self, part: Part, entry: Mapping[str, Any]) -> bool:
        """Deals with a log line of the service's own; False leaves it to be judged by its level."""

    def _works(self, part: Part, *, again: str) -> None:
        part.ready.set()
        if self._deaths:
            self._output.line((f"{self.name}: ", "bold"), (again, "green"))

    def _heard(self, part: Part, line: str) -> str:
        entry = said.read_json(line)
        if entry is None:
            self._complain(line, level="warning")
            return line
        level = str(entry.get("level"))
        if not self._said(part, entry) and level in said.LEVEL_STYLES:
            self._complain(said.sentence(entry), level=level)
            self._complain(str(entry.get("traceback") or ""), level=level)
        return said.sentence(entry)

    def _complain(self, text: str, *, level: str) -> None:
        for pieces in said.part_lines(self.name, text, level=level):
            self._output.line(*pieces)
