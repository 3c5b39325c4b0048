"""One container of a pod: a process of this checkout, started, asked whether it is ready, ended."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[3]
PROGRAMS = Path(sys.executable).parent
"""Where the image's python and nexus-auth are here."""

NOT_FOUND = 127
PROBE_SECONDS = 2.0
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Before each further start; the last one stays."""


def now() -> str:
    """As the API writes times."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Container:
    """It has the state of a container: waiting, running, terminated."""

    def __init__(self, spec: Mapping[str, Any], *, address: str, log: Path) -> None:
        """Starts nothing yet."""
        self.spec = spec
        self.log = log
        """What it says; what the one before it said is beside it, in `.before`."""
        self.ready = False
        self.waits_for: tuple[str, str] = ("ContainerCreating", "")
        self.exit_code: int | None = None
        self.restarts = 0
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self._times = ["", ""]
        self._next_start = 0.0
        self._last: Mapping[str, Any] = {}

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self.exit_code is None

    def start(self, environment: Mapping[str, str], *, command: Sequence[str], home: Path) -> None:
        """Starts its process, for the first time or again."""
        if self.exit_code is not None:
            self._last = self._terminated()
            self.restarts += 1
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".before"))
        program = PROGRAMS / command[0]
        with self.log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [str(program) if program.exists() else command[0], *command[1:]],
                    cwd=CHECKOUT,
                    env={"PATH": f"{PROGRAMS}:{os.defpath}", "HOME": str(home), "PYTHONUNBUFFERED": "1", **environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            except OSError as error:
                log.write(f"{command[0]}: {error}\n".encode())
                self._times[0] = now()
                self._ended(NOT_FOUND)
                return
        self._times, self.exit_code = [now(), ""], None

    def look(self) -> None:
        """Notices an end, and asks whether it is ready."""
        if not self.running:
            return
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            self.ready = self._is_ready()
        else:
            self._ended(code)

    def may_restart(self) -> bool:
        """Whether its pause is over."""
        return time.monotonic() >= self._next_start

    def end(self, *, seconds: float) -> None:
        """Its pause before the end, SIGTERM, then SIGKILL where `seconds` in all are not enough."""
        if not self.running:
            return
        assert self._process is not None
        deadline = time.monotonic() + seconds
        pause = self.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        with suppress(subprocess.TimeoutExpired):  # it may end by itself meanwhile
            self._process.wait(min(pause, seconds))
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.look()

    def status(self) -> Mapping[str, Any]:
        """As a pod's status has it."""
        reason, message = self.waits_for
        state: Mapping[str, Any] = {"waiting": {"reason": reason, "message": message}}
        if self.running:
            state = {"running": {"startedAt": self._times[0]}}
        elif self.exit_code is not None:
            state = self._terminated()
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": "",
            "ready": self.ready,
            "started": self.running,
            "restartCount": self.restarts,
            "state": state,
            "lastState": self._last,
        }

    def _ended(self, code: int) -> None:
        self.exit_code, self.ready, self._times[1] = code, False, now()
        self._next_start = time.monotonic() + PAUSES[min(self.restarts, len(PAUSES) - 1)]

    def _terminated(self) -> Mapping[str, Any]:
        if self.exit_code is None:
            return {}
        began, ended = self._times
        code = self.exit_code if self.exit_code >= 0 else 128 - self.exit_code
        reason = "Completed" if code == 0 else "Error"
        return {"terminated": {"exitCode": code, "reason": reason, "startedAt": began, "finishedAt": ended}}

    def _is_ready(self) -> bool:
        """By its readiness probe over HTTP; one that has none is ready when it runs."""
        probe = self.spec.get("readinessProbe", {}).get("httpGet")
        if probe is None:
            return True
        connection = http.client.HTTPConnection(
            self._address, port_number(self.spec, probe["port"]), timeout=PROBE_SECONDS
        )
        try:
            connection.request("GET", probe.get("path", "/"))
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def port_number(container: Mapping[str, Any], port: int | str) -> int:
    """A port by number or by the name that the container gives it."""
    if isinstance(port, int):
        return port
    return next(int(of["containerPort"]) for of in container.get("ports", ()) if of.get("name") == port)
