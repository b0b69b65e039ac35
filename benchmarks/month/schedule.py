"""The schedule of the month: the stack's worker scores too, by itself, until it is killed."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import yaml

from month.servers import DIES_S
from pipelines.stack.state import read_state
from vae_anomaly.config import read_plant

#: Seconds from one scheduled run to the next; to begin one takes a good part of them.
EVERY_S = 30

#: Seconds to wait for a run that can be killed with its worker.
WAIT_S = 60

#: Seconds within which the schedule has to go on, at the end: the lease of a run that was killed
#: while it ran (300), the server's next look at leases (15), the next run, and time for it to run.
GOES_ON_S = 300 + 15 + EVERY_S + 75

#: Runs that the server hands out at once; it allows no more.
PAGE = 200

#: States of a run that seems to go on.
UNDER_WAY = ("PENDING", "RUNNING")

#: What the name of a run says of one that scored; one that found nothing has no such end.
SCORED = re.compile(r", ([\d,]+) rows$")

ROOT = Path(__file__).parents[2]


class Run(NamedTuple):
    """A run that nobody but the schedule asked for."""

    run_id: str
    name: str
    state: str
    began: float  # seconds since 1970; 0 for one that never did
    since: float = 0.0  # when it came into its state

    @property
    def scored(self) -> bool:
        """Whether it is over, and has judged rows."""
        return self.state == "COMPLETED" and SCORED.search(self.name) is not None


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
    """Every run of the schedule that is under way, or has ended, as the server knows it."""
    found: list[Run] = []
    n_seen = 0
    states = [*UNDER_WAY, "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
    with _server(environment) as ask:
        while True:
            wanted = {
                "flow_runs": {"state": {"type": {"any_": states}}}, "sort": "START_TIME_ASC",
                "limit": PAGE, "offset": n_seen,
            }  # fmt: skip
            page = ask.post("/flow_runs/filter", json=wanted).raise_for_status().json()
            found += [_run(run) for run in page if run["auto_scheduled"]]
            n_seen += len(page)
            if len(page) < PAGE:
                return found


def _server(environment: Mapping[str, str]) -> httpx.Client:
    user, _, password = environment["PREFECT_API_AUTH_STRING"].partition(":")
    return httpx.Client(base_url=environment["PREFECT_API_URL"], auth=(user, password), timeout=30)


def _run(run: Mapping[str, str | Mapping[str, str] | None]) -> Run:
    began, state = run["start_time"], run["state"]
    assert isinstance(state, dict)
    return Run(
        str(run["id"]), str(run["name"]), str(run["state_type"]),
        _seconds(str(began)) if began else 0.0, _seconds(state["timestamp"]),
    )  # fmt: skip


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def has_run(environment: Mapping[str, str], since: float) -> bool:
    """Whether a run is under way that is so since some moment: one that was killed seems so too."""
    runs = scheduled_runs(environment)
    return any(run.state in UNDER_WAY and run.since > since for run in runs)


def mark_crashed(environment: Mapping[str, str]) -> int:
    """Mark what seems under way as crashed, as docs/operations.md says; how many runs that was.

    It frees their turn at once: a run that was killed holds it until its lease is over.
    """
    dead = [run for run in scheduled_runs(environment) if run.state in UNDER_WAY]
    state = {"type": "CRASHED", "message": "killed together with its worker"}
    with _server(environment) as ask:
        for run in dead:
            ask.post(f"/flow_runs/{run.run_id}/set_state", json={"state": state}).raise_for_status()
    return len(dead)


def runs_of_worker(stack: Path) -> list[psutil.Process]:
    """Processes of the run that the worker has under way; none where it has none, or is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return _worker(stack).children(recursive=True)
    return []


def _worker(stack: Path) -> psutil.Process:
    state = read_state(stack)
    process = None if state is None else state.process("worker")
    assert process is not None
    return psutil.Process(process.pid)


def kill_worker(stack: Path, is_under_way: Callable[[float], bool], *, after_s: float) -> bool:
    """SIGKILL the worker and its run, after some time and once it has one; whether it had one.

    It dies without one where none begins within `WAIT_S`. A process whose run is over by what the
    server says, asked by `is_under_way`, is no run.
    """
    worker = _worker(stack)
    time.sleep(after_s)
    until = time.monotonic() + WAIT_S
    while True:
        worker.suspend()  # else a run could begin or end meanwhile
        runs = worker.children(recursive=True)
        for run in runs:
            with contextlib.suppress(psutil.NoSuchProcess):
                run.suspend()
        with_run = bool(runs) and is_under_way(worker.create_time())
        if with_run or time.monotonic() > until:
            break
        for process in (*runs, worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        time.sleep(0.3)
    for process in (worker, *runs):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([worker, *runs], timeout=DIES_S)  # what still ends is not started again
    return with_run
