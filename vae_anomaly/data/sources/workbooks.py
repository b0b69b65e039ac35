"""Workbooks, read by a process of their own: whatever is in one, memory and time are bounded."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec

import pyarrow as pa

from vae_anomaly.config import Source
from vae_anomaly.data.sheets import OUT_OF_MEMORY, UNREADABLE
from vae_anomaly.data.sources.storage import SourceFile, is_remote, open_file
from vae_anomaly.errors import SourceError

__all__ = ["read_excel"]

#: Address space of the reader: a sheet of a million rows and ten columns takes about one.
MAX_BYTES = 6 << 30
#: CPU seconds of the reader, and more for each byte of the file: ten times what numbers take.
CPU_S, CPU_S_PER_BYTE = 30, 40 / 1e6
#: Bytes that are copied at once.
COPY_BYTES = 1 << 20


def read_excel(file: SourceFile, source: Source, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of a sheet, as `sheets.read_sheet` gives them.

    Raises
    ------
    SourceError
        The file is no workbook, has no such sheet, or takes too much memory or time to open; or
        the package that reads it is missing.
    """
    if find_spec("python_calamine") is None:
        raise SourceError(
            "workbooks need python-calamine; install it with: pip install 'vae-anomaly[excel]'"
        ) from ImportError("python_calamine")
    with open_file(file, source) as stream, tempfile.TemporaryFile() as copy:
        while is_remote(file.path) and (piece := stream.read(COPY_BYTES)):
            copy.write(piece)
        copy.seek(0)
        workbook = copy if is_remote(file.path) else stream
        yield from _batches_of_process(workbook.fileno(), file.size, source, batch_rows)


def _batches_of_process(
    workbook: int, n_bytes: int, source: Source, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """What the process hands over; its end, if it is not a good one, as a SourceError."""
    cpu_s = int(CPU_S + CPU_S_PER_BYTE * max(n_bytes, 0))
    given = Source(path="", **source.model_dump(include={"sheet", "skip_lines", "header"}))
    numbers = (str(number) for number in (batch_rows, MAX_BYTES, cpu_s))
    command = [sys.executable, "-m", "vae_anomaly.data.sheets", given.model_dump_json(), *numbers]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=workbook, stdout=subprocess.PIPE, stderr=said)
        assert process.stdout is not None
        try:
            with suppress(pa.ArrowInvalid), pa.ipc.open_stream(process.stdout) as reader:
                yield from reader  # what breaks off, the process tells
            if process.wait() != 0:
                said.seek(0)
                raise SourceError(_why(process.returncode, said.read().decode(), cpu_s))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _why(status: int, said: str, cpu_s: int) -> str:
    """Why a process ended, in a sentence."""
    advice = "save its sheet as CSV, and read that"
    if status == UNREADABLE:
        return said
    if status == -signal.SIGXCPU:
        return f"it was not open after {cpu_s} CPU-seconds; {advice}"
    if status in (OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL):
        return f"it takes more than {MAX_BYTES / 2**30:.0f} GiB of memory to open; {advice}"
    reason = said.strip().rpartition("\n")[2] or f"status {status}"
    return f"its reader failed ({reason}); {advice}"
