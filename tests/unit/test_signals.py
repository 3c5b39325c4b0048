"""A program sets its own signal handlers, whatever it inherited."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal, sys
from nexus_auth import signals
signals.take_over()
try:
    print("up", flush=True)
    signal.pause()
except KeyboardInterrupt:
    sys.exit(3)
"""


def ignored_and_blocked() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 3), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_program_begun_with_signals_ignored_and_blocked_ends_by_them(sent: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        preexec_fn=ignored_and_blocked,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(sent)
        assert process.wait(20) == code
