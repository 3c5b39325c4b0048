"""CPU time of processes by what the kernel says of them: whatever language they are in, and after they have ended."""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
"""Of /proc, a second: 100, hence ±10 ms for what is read here."""

_PARENT, _UTIME, _CSTIME = 1, 11, 14
"""Places in /proc/<pid>/stat behind the name: utime, stime, cutime and cstime stand in a row."""


@dataclass(frozen=True, slots=True)
class Clock:
    """CPU seconds that were spent until a moment, and the wall clock's."""

    service: float
    postgres: float
    machine: float
    """Everything on this machine, the kernel included."""


def read(*, service: int, postmaster: int) -> Clock:
    """Reads all three at once."""
    return Clock(service=of_process(service), postgres=of_family(postmaster), machine=of_machine())


def of_process(pid: int) -> float:
    """User and system seconds of one process, without its children."""
    return sum(_times(_stat(pid))[:2]) / TICKS


def of_family(pid: int) -> float:
    """User and system seconds of a process and its children, those that ended (and were waited for) included.

    One generation: Postgres forks everything from the postmaster.
    """
    ticks = sum(_times(_stat(pid)))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = _stat(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(stat[_PARENT]) == pid:
            ticks += sum(_times(stat)[:2])
    return ticks / TICKS


def of_machine() -> float:
    """Busy seconds of all processors together."""
    user, nice, system, _idle, _iowait, irq, softirq = Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    return sum(map(int, (user, nice, system, irq, softirq))) / TICKS


def _stat(pid: int) -> list[str]:
    # The name stands in parentheses and may hold anything, spaces and parentheses included.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _times(stat: list[str]) -> list[int]:
    return [int(value) for value in stat[_UTIME : _CSTIME + 1]]
