"""Runs one command and stops it when standard input ends: that is, when the process that asked for it is gone.

A pytest that is killed with -9 runs no atexit hook, and its Postgres would stay for ever. The kernel closes a dead
process's pipes in any case, so the end of a pipe is the one notice that always comes. PR_SET_PDEATHSIG was the other
candidate: it follows the *thread* that forked (a worker thread that ends would stop the server), it is lost where the
uid changes, and it cannot escalate from a polite signal to a hard one. Orderly stops take the same way, so it is walked
all the time.

Run as a script, isolated (`python -I -S watchdog.py UID GID FOLDER COMMAND...`): only the standard library, started in
15 ms. UID and GID are `-` for "as I am"; FOLDER is removed when the command has ended, `-` for none. Ends with the
command's exit code.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

PATIENCE = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
"""Postgres's fast shutdown, its immediate one, the kernel's; seconds that each may take."""


def main() -> None:
    """Starts the command, waits for the end of standard input or of the command."""
    uid, gid, folder, *command = sys.argv[1:]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        user=None if uid == "-" else int(uid),
        group=None if gid == "-" else int(gid),
        extra_groups=None if uid == "-" else [],
        umask=0o077,
    )
    end = threading.Thread(target=end_with, args=(child, folder), daemon=True)
    end.start()
    signal.signal(signal.SIGTERM, lambda *_: os.close(0))
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass  # closed by SIGTERM
    for number, seconds in PATIENCE:
        child.send_signal(number)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        break
    end.join()


def end_with(child: subprocess.Popen[bytes], folder: str) -> None:
    """Waits for the command, tidies up, and ends this process from whatever it is doing."""
    code = child.wait()
    if folder != "-":
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
