"""What a data folder's `postmaster.pid` tells, and which of it is still true after a crash.

The file stays behind a killed server, and its number may by now be another process's. Postgres itself only asks whether
the number lives, and then refuses to start; here the process must also stand in the data folder, as every postmaster
does.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

POLL_SECONDS = 0.01


def noted_pid(data: Path) -> int | None:
    """The process id in `postmaster.pid`, whoever it belongs to by now."""
    return _noted(_lines(data))


def live_pid(data: Path) -> int | None:
    """The postmaster that runs on this data folder, or None."""
    return _live(_lines(data), data)


def is_ready(data: Path) -> bool:
    """Whether a postmaster runs here and says that it accepts connections (line 8; pg_ctl looks there too).

    One look at the file for both: a crashed server leaves one that says ready, until the next one writes its own.
    """
    lines = _lines(data)
    return len(lines) >= 8 and lines[7].strip() == "ready" and _live(lines, data) is not None


def crash(pid: int, *, timeout: float) -> None:
    """SIGKILL for a postmaster and all that it forked, as a power cut does it; returns when all are gone.

    The postmaster is frozen first: it could fork, or tell its children to end in good order.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        family = [*_children(pid), pid]
        for member in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
        wait_until_gone(family, timeout=timeout)


def wait_until_gone(pids: list[int], *, timeout: float) -> None:
    """Returns when none of the processes runs any more (a zombie does not); TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {pids} are still there after {timeout:g} s")
        time.sleep(POLL_SECONDS)


def _lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _noted(lines: list[str]) -> int | None:
    return abs(int(lines[0])) if lines and lines[0].strip().lstrip("-").isdigit() else None


def _live(lines: list[str], data: Path) -> int | None:
    pid = _noted(lines)
    return pid if pid is not None and _stands_in(pid, data) else None


def _stands_in(pid: int, data: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == data.resolve()
    except OSError:
        return not Path("/proc/self").exists() and _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state_and_parent(Path(f"/proc/{pid}"))[0] != "Z"


def _children(pid: int) -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _state_and_parent(folder)[1] == pid]


def _state_and_parent(folder: Path) -> tuple[str, int]:
    try:
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "", 0
    return state, int(parent)
