"""Runs a program of ours (`PACKAGE.__main__:main`) that ends when whoever started it does.

The kernel closes a dead process's pipes in any case, `kill -9` included, so the end of standard input is the one notice
that always comes; orderly stops take the same way, so that it is walked every time. Not `PR_SET_PDEATHSIG`: it follows
the thread that forked, and Linux only.

The first line of standard input is a JSON object, the environment to add: a part is started and imports what it needs
while the others get ready, and is told late where they are. Besides, secrets stay out of /proc/PID/environ.

    python -m devtools.run.leash PACKAGE [ARGUMENT...]
"""

import importlib
import json
import os
import signal
import sys
import threading
import time

from nexus_auth.signals import take_over

PATIENCE = 10.0
"""Seconds from the notice to SIGKILL."""


def main() -> int:
    """Imports the program, reads its environment, runs it; answers its exit code."""
    take_over()
    package = sys.argv[1]
    told = threading.Event()
    threading.Thread(target=_watch, args=(told,), daemon=True).start()
    program = importlib.import_module(f"{package}.__main__")
    sys.argv[:2] = [package]
    told.wait()
    return int(program.main())


def _watch(told: threading.Event) -> None:
    text = b""
    while piece := os.read(0, 65_536):
        text += piece
        if not told.is_set() and b"\n" in text:
            os.environ.update(json.loads(text.partition(b"\n")[0]))
            told.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
