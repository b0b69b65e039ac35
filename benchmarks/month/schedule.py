"""The schedule of the month: the stack's worker scores too, by itself, until it is killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import yaml

from pipelines.stack.state import read_state
from vae_anomaly.config import read_plant

#: Seconds from one scheduled run to the next; to begin one takes a good part of them.
EVERY_S = 30

#: Seconds to wait for a run that can be killed with its worker.
WAIT_S = 60

#: Runs that the server hands out at once; it allows no more.
PAGE = 200

ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """A run that nobody but the schedule asked for."""

    state: str
    began: float  # seconds since 1970; 0 for one that never did


def deploy(plant: Path, environment: Mapping[str, str]) -> None:
    """`prefect deploy` of the scoring that prefect.yaml has, for this plant and more often."""
    name = read_plant(plant).name
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    (entry,) = (e for e in declared["deployments"] if e["entrypoint"].endswith(":score"))
    entry |= {"name": name, "tags": ["vae-anomaly", name], "schedules": [{"interval": EVERY_S}]}
    entry["parameters"]["parameters"]["plant"] = str(plant)
    file = plant.with_name("prefect.yaml")
    declared["deployments"] = [entry]
    file.write_text(yaml.safe_dump(declared), encoding="utf-8")
    command = ["--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    subprocess.run(
        [sys.executable, "-m", "prefect", *command],
        cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True,
    )  # fmt: skip


def scheduled_runs(environment: Mapping[str, str]) -> list[Run]:
    """Every run of the schedule that was begun, or has ended, as the server knows it."""
    found: list[Run] = []
    n_seen = 0
    states = ["RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
    user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
    with httpx.Client(base_url=environment["PREFECT_API_URL"], auth=(user, password)) as ask:
        while True:
            wanted = {
                "flow_runs": {"state": {"type": {"any_": states}}}, "sort": "START_TIME_ASC",
                "limit": PAGE, "offset": n_seen,
            }  # fmt: skip
            page = ask.post("/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
            found += [Run(run["state_type"], _moment(run)) for run in page if run["auto_scheduled"]]
            n_seen += len(page)
            if len(page) < PAGE:
                return found


def _moment(run: Mapping[str, str | None]) -> float:
    began = run["start_time"]
    return 0.0 if began is None else datetime.fromisoformat(began).timestamp()


def kill_worker(stack: Path, *, after_s: float) -> None:
    """SIGKILL the worker and its run, some time after that began, or without one if none begins."""
    state = read_state(stack)
    process = None if state is None else state.process("worker")
    assert process is not None
    worker = psutil.Process(process.pid)
    until = time.monotonic() + WAIT_S
    while not worker.children(recursive=True) and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(after_s)
    for victim in (worker, *worker.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
