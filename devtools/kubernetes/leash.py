"""Runs programs and kills them when standard input ends: that is, when the process that asked for them is gone.

The kernel closes a dead process's pipes in any case, `kill -9` included. Nothing that these programs hold is worth an
orderly stop, so there is none: they are killed with all that they started, and the folder is removed.

Run as a script, isolated (`python -I -S leash.py FOLDER`): only the standard library. Each line of standard input is
a JSON list, name and command. What it says goes to FOLDER/NAME.log; one that ends by itself leaves FOLDER/NAME.ended.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path


def main() -> None:
    """Starts what it is told to, until standard input ends."""
    folder = Path(sys.argv[1])
    children: list[subprocess.Popen[bytes]] = []
    watchers: list[threading.Thread] = []
    signal.signal(signal.SIGTERM, lambda *_: os.close(0))
    with contextlib.suppress(OSError):  # closed by SIGTERM
        for line in sys.stdin:
            name, *command = json.loads(line)
            with (folder / f"{name}.log").open("ab") as log:
                child = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
                )
            children.append(child)
            watchers.append(threading.Thread(target=_note_end, args=(child, folder / f"{name}.ended")))
            watchers[-1].start()
    for child in reversed(children):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    for watcher in watchers:
        watcher.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _note_end(child: subprocess.Popen[bytes], note: Path) -> None:
    code = child.wait()
    with contextlib.suppress(OSError):
        note.write_text(str(code))


if __name__ == "__main__":
    main()
