"""A command that lasts no longer than whoever started it, also where that one is killed.

::

    python -m pipelines.guard COMMAND …

Standard input is a pipe that the starter holds open: the system closes it when that one ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

__all__ = ["guarded"]

#: Seconds that the command may take to end when it is asked to.
END_S = 15


def guarded(command: Sequence[str]) -> int:
    """Run a command in a group of its own until it ends, or is alone; its exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    threading.Thread(target=_end_when_alone, args=[process.pid], daemon=True).start()
    return process.wait()


def _end_when_alone(group: int) -> None:
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written: it returns when the pipe is closed
    os.killpg(group, signal.SIGTERM)
    time.sleep(END_S)
    os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(guarded(sys.argv[1:]))
