"""Runs a program (`PACKAGE.__main__:main`) that ends when the process that started it ends.

The kernel closes a dead process's pipes in any case, `kill -9` included, so the end of standard input always tells. An
orderly stop uses the same way, so that it is tested by every run. `PR_SET_PDEATHSIG` would follow the thread that
forked, and exists on Linux only.

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
