"""The process that runs the flows, one command a line on its standard input; killed at any time.

python -m month.runner plant.yml
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO

#: What a command gave: its figures, or what went wrong, and whether the runner ended of it.
Answer = dict[str, object]

#: Seconds after which a command counts as hung, by itself or because it talks to a dead server.
HUNG_S = 600.0

#: The error of a command whose process was killed as asked for; any other is its own.
KILLED = "killed"


# ----------------------------------------------------------------------- in the runner's process


def hour(plant: Path) -> Answer:
    """Ingest what is new, and score it."""
    from pipelines.ingest import ingest
    from pipelines.parameters import PlantParameters
    from pipelines.score import score

    parameters = PlantParameters(plant=plant)
    ingested, scored = ingest(parameters), score(parameters)
    shadow = scored.shadow
    return {
        "accepted": ingested.counts.n_accepted,
        "scored": scored.n_rows,
        "version": scored.model_version,
        "cached": scored.cached,
        "raised": [row.asset for row in scored.alarms.raised],
        "shadow": 0 if shadow is None else shadow.n_rows,
    }


def ingest(plant: Path) -> Answer:
    """Ingest what is new, and leave the scoring to others."""
    from pipelines.ingest import ingest as flow
    from pipelines.parameters import PlantParameters

    return {"accepted": flow(PlantParameters(plant=plant)).counts.n_accepted}


def monitor(plant: Path) -> Answer:
    """Look for drift, window by window."""
    from pipelines.monitor import monitor as flow
    from pipelines.parameters import PlantParameters

    report = flow(PlantParameters(plant=plant))
    return {
        "windows": [
            {
                "start": window.start,
                "plant": window.plant.kind,
                "assets": {name: found.kind for name, found in window.diagnoses.items() if name},
                "columns": {n: list(found.columns) for n, found in window.diagnoses.items()},
            }
            for window in report.new
        ]
    }


def retrain(plant: Path) -> Answer:
    """Train a challenger, unless an alarm is open."""
    from pipelines.retrain import RetrainParameters
    from pipelines.retrain import retrain as flow

    report = flow(RetrainParameters(plant=plant))
    return {"frozen": bool(report.freeze), **_registered(report.registered)}


def run(plant: Path) -> Answer:
    """The main job: ingest, train, calibrate, register, score."""
    from pipelines.parameters import PlantParameters
    from pipelines.run import run as flow

    return _registered(flow(PlantParameters(plant=plant)).registered)


def contend(plant: Path) -> Answer:
    """Train, calibrate and register a version, and let the gate say what it is worth."""
    from pipelines.calibrate import calibrate
    from pipelines.parameters import FolderParameters, PlantParameters
    from pipelines.register import register
    from pipelines.train import train

    trained = train(PlantParameters(plant=plant))
    onward = FolderParameters(plant=plant, folder=trained.folder)
    if not trained.registered:
        calibrate(onward)
    return _registered(register(onward))


def _registered(report: object) -> Answer:
    from vae_anomaly.steps.register import RegisterReport

    if not isinstance(report, RegisterReport):
        return {}
    return {
        "registered": report.version.version,
        "alias": report.alias,
        "reasons": list(report.reasons),
    }


COMMANDS: Mapping[str, Callable[[Path], Answer]] = {
    "hour": hour,
    "ingest": ingest,
    "monitor": monitor,
    "retrain": retrain,
    "run": run,
    "contend": contend,
}


def main() -> None:
    """Answer each line of the standard input with a line on what was the standard output."""
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever the flows print is no answer
    for line in sys.stdin:
        name, plant = json.loads(line)
        try:
            # a heartbeat costs a second a flow, and here the driver knows who is dead
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                answer = {"ok": True, **COMMANDS[name](Path(plant))}
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer, default=str), file=out, flush=True)


# ----------------------------------------------------------------------- in the driver's process


class Runner:
    """A runner under way; started anew after a kill. It counts the seconds of each command."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.environment = {**os.environ, **environment, "PREFECT_LOGGING_LEVEL": "WARNING",
                            "PREFECT_CLIENT_MAX_RETRIES": "1"}  # fmt: skip
        self.log = log
        self.seconds: Counter[str] = Counter()
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "month.runner"]
        root = str(Path(__file__).parents[1])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**self.environment, "PYTHONPATH": _path(root)},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.answers: Queue[str] = Queue()
        assert self.process.stdout is not None
        Thread(target=_read, args=(self.process.stdout, self.answers), daemon=True).start()

    def do(self, name: str, plant: Path, *, kill_after_s: float | None = None) -> Answer:
        """Run a command; killed after some seconds where that is asked for, or where it hangs."""
        assert self.process.stdin is not None
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has ended, as the answers then say
            os.write(self.process.stdin.fileno(), f"{json.dumps([name, str(plant)])}\n".encode())
        try:
            line = self.answers.get(timeout=HUNG_S if kill_after_s is None else kill_after_s)
        except Empty:
            status, error = self.stop(), "hung, so killed" if kill_after_s is None else KILLED
        else:
            if line:
                found: Answer = json.loads(line)
                return found
            status, error = self.process.wait(), ""
        finally:
            self.seconds[name] += round(time.monotonic() - began)
        self._start()
        if status != -signal.SIGKILL or not error:
            error = f"ended by itself, with exit status {status}"
        return {"ok": False, "error": error, "ended": True}

    def stop(self) -> int:
        """End it for good; its exit status, which is another's than the kill's if it had ended."""
        self.process.kill()
        return self.process.wait()


def _read(stream: IO[str], answers: Queue[str]) -> None:
    for line in stream:
        answers.put(line)
    answers.put("")  # it has ended


def _path(root: str) -> str:
    before = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join([root, str(Path(root).parent), *([before] if before else [])])


if __name__ == "__main__":
    main()
