"""The webhook service of a run: started early, told late, and started again whenever it dies.

It keeps nothing that Postgres does not have, and Clerk delivers again what was not acknowledged: a restart loses
nothing.
"""

import asyncio
import time
from collections.abc import Mapping

from devtools.run import said
from devtools.run.output import Output
from devtools.run.parts import Part

NAME = "webhook"
PATH = "/webhooks/clerk"

EXIT_CONFIGURATION = 78
"""Its exit code where starting again will not help."""

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds before each further start; the last one stays."""

SETTLED_SECONDS = 60.0
"""Who ran so long begins with the shortest pause again."""


class Webhook:
    """One service on the same two ports, whichever process it is at the moment."""

    def __init__(self, *, port: int, metrics_port: int, output: Output) -> None:
        """Starts nothing yet."""
        self.url = f"http://127.0.0.1:{port}{PATH}"
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._ports = {"NEXUS_AUTH_PORT": str(port), "NEXUS_AUTH_HEALTH_PORT": str(metrics_port)}
        self._output = output
        self._environment: Mapping[str, str] = {}
        self._part: Part | None = None
        self._deaths = 0
        """One after the other, without a settled time between."""

    async def warm_up(self) -> None:
        """Starts the process, which imports its libraries and waits for `begin`."""
        self._part = await Part.start(NAME, "services.webhook", heard=self._heard)

    async def begin(self, environment: Mapping[str, str]) -> None:
        """Lets it run; returns when it accepts events. Raises `PartFailed`."""
        assert self._part is not None
        self._environment = {**environment, **self._ports, "NEXUS_AUTH_LOG_EVENTS": "1"}
        self._part.begin(self._environment)
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

    def _heard(self, part: Part, line: str) -> str:
        entry = said.read_json(line)
        if entry is None:
            self._complain(line, level="warning")
            return line
        level = str(entry.get("level"))
        if entry["message"] == "event":
            self._output.line(*said.event_pieces(entry))
        elif entry["message"] == "ready":
            part.ready.set()
            if self._deaths:
                self._output.line((f"{NAME}: ", "bold"), ("accepts events again", "green"))
        elif level in said.LEVEL_STYLES:
            self._complain(said.sentence(entry), level=level)
            self._complain(str(entry.get("traceback") or ""), level=level)
        return said.sentence(entry)

    def _complain(self, text: str, *, level: str) -> None:
        for pieces in said.part_lines(NAME, text, level=level):
            self._output.line(*pieces)
