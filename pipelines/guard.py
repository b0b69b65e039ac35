"""A command that lasts no longer than whoever started it, also where that one is killed.

::

    python -m pipelines.guard COMMAND …

Standard input is a pipe that the starter holds open: the system closes it when that one ends.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["guarded"]

#: Seconds that the command and what it started may take to end when they are asked to.
END_S = 15.0

#: Seconds from one look to the next whether they have ended.
LOOK_S = 0.05


def guarded(command: Sequence[str], *, end_s: float = END_S) -> int:
    """Run a command in a group of its own until it ends, or is alone; its exit status.

    It is also ended where this process is asked to end. Nothing of its group outlives it.

    Parameters
    ----------
    command : sequence of str
    end_s : float, optional
        Seconds from SIGTERM to SIGKILL.
    """
    woken, wake = os.pipe()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.write(wake, b"."))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    ending = threading.Thread(target=_end_group, args=[process.pid, woken, end_s])
    ending.start()
    status = process.wait()
    os.write(wake, b".")
    ending.join()  # what the command started may ignore SIGTERM, and outlive it
    return status


def _end_group(group: int, woken: int, end_s: float) -> None:
    # nothing is ever written to standard input: it can be read when the pipe is closed
    select.select([sys.stdin.fileno(), woken], [], [])
    with suppress(ProcessLookupError):  # all have ended
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + end_s
        while time.monotonic() < until:
            time.sleep(LOOK_S)
            os.killpg(group, 0)
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(guarded(sys.argv[1:]))
