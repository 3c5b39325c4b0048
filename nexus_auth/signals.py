"""The signals that stop a process, whatever it inherited.

A shell starts background jobs with SIGINT ignored, and a parent may have blocked signals: both are inherited, and
Python then installs no handler of its own. A process that sets its handlers only later could not be stopped meanwhile.
"""

import signal

STOPPING = (signal.SIGINT, signal.SIGTERM)


def take_over() -> None:
    """Makes SIGINT raise KeyboardInterrupt and SIGTERM end the process, and lets both through.

    Call it first in a program's `main`, from the main thread. An event loop's own handlers replace these later.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
