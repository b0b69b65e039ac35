"""A month of three pumps on real servers, which are killed now and then, in so many steps.

    python benchmarks/simulated_month.py --steps 720 --out benchmarks/results/simulated_month.md

Each step new files arrive, and are ingested and scored by flows on a Prefect server, with an MLflow
server, both on PostgreSQL; a worker scores too, by its schedule, whatever the step. 720 steps are
hours. What happens when: `month/story.py`; what is checked at the end: `month/checks.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from month.checks import Check, Record, checks
from month.operator import answer_alarms, known_faults
from month.receiver import receiving, save_block
from month.runner import Answer, Runner
from month.schedule import deploy, kill_worker, scheduled_runs
from month.servers import heal, kill, servers
from month.story import (
    AGAIN_DAY,
    BAD_DAY,
    DAY,
    FREEZE_DAY,
    HISTORY,
    PROMOTE_DAY,
    RETRAIN_DAY,
    ROLLBACK_DAY,
    Story,
    learn_new_regime,
    moment,
    write_bad_plant,
    write_plant,
)

from vae_anomaly.cli import main as vae_anomaly
from vae_anomaly.data.simulate import write_files

#: Steps for each kill of one of these, each of which dies once at least, in steps of their own.
KILL_EVERY = {"runner": 50, "worker": 240, "mlflow": 120, "prefect": 120, "postgres": 240}

#: Seconds within which a process dies after its step has begun.
DIES_WITHIN_S = (0.2, 3.0)


@dataclass
class Month:
    """A month under way."""

    story: Story
    folder: Path
    record: Record = field(default_factory=Record)
    timeline: list[str] = field(default_factory=list)

    @property
    def plant(self) -> Path:
        """The plant file."""
        return self.folder / "plant.yml"

    def say(self, step: int, text: str) -> None:
        """A line of the timeline."""
        line = f"day {self.story.day(step):5.2f}  {text}"
        print(line, flush=True)
        self.timeline.append(line)


def run_month(story: Story, folder: Path) -> tuple[Month, list[Check]]:
    """Live through a month; returns what was seen, and what held."""
    month = Month(story, folder)
    simulation = story.simulation
    write_plant(folder, simulation)
    written = write_files(
        simulation, folder / "incoming", 0, HISTORY * DAY, rows_per_file=HISTORY * DAY
    )
    month.record.n_written = written.n_accepted
    with (
        receiving() as month.record.received,
        servers(folder / "stack") as environment,
        _environment(environment),
    ):
        runner = Runner(environment, folder / "runner.log")
        try:
            save_block(month.record.received.url, environment)
            month.say(-1, _told(runner.do("run", month.plant)))
            deploy(month.plant, environment)
            deaths = _deaths(story)
            for step in range(story.steps):
                _step(month, runner, step, deaths.get(step, ""))
            month.record.scheduled = scheduled_runs(environment)
            runner.do("hour", month.plant)  # what came while a server was away
            spent = ", ".join(f"{k} {v} s" for k, v in runner.seconds.most_common())
            print(f"the flows took: {spent}")
        finally:
            runner.stop()
        return month, list(checks(story, month.plant, month.record))


def _step(month: Month, runner: Runner, step: int, victim: str) -> None:
    """A file arrives, and is ingested and scored, whatever dies meanwhile; then people act."""
    first, n_rows = month.story.rows(step)
    incoming = month.folder / "incoming"
    written = write_files(month.story.simulation, incoming, first, n_rows, rows_per_file=n_rows)
    month.record.n_written += written.n_accepted
    with _death(month, step, victim):
        after_s = _when(month, step) if victim == "runner" else None
        answer = runner.do("hour", month.plant, kill_after_s=after_s)
    if victim == "runner" and answer["ok"]:
        month.say(step, f"runner done before it could be killed: {_told(answer)}")
    elif victim:
        month.record.deaths.append((victim, time.time()))
        month.say(step, f"{victim} killed: {_told(answer)}")
        heal(month.folder / "stack")
    if answer["ok"]:
        month.record.hours.append(answer)
        if answer["raised"]:
            month.say(step, f"{_told(answer)}")
    _people(month, runner, step)
    if answer["ok"] and month.story.day(step) == int(month.story.day(step)):
        day = moment(month.story.simulation, month.story.day(step)) - timedelta(seconds=600)
        month.record.champions[day.isoformat()] = str(answer["version"])


@contextlib.contextmanager
def _death(month: Month, step: int, victim: str) -> Iterator[None]:
    """Kill somebody at a moment of the block; MLflow before it, so that it is missed."""
    if victim in ("", "runner"):
        yield
        return
    act = kill_worker if victim == "worker" else partial(kill, service=victim)
    with ThreadPoolExecutor(1) as aside:
        after_s = 0.0 if victim == "mlflow" else _when(month, step)
        dying = aside.submit(act, month.folder / "stack", after_s=after_s)
        if victim == "mlflow":
            dying.result()
        yield
        dying.result()


def _when(month: Month, step: int) -> float:
    return random.Random(f"{month.story.seed}/{step}").uniform(*DIES_WITHIN_S)


def _people(month: Month, runner: Runner, step: int) -> None:
    """What is done once a day, and on the days of the story."""
    story, record, plant = month.story, month.record, month.plant
    if story.passes(step, FREEZE_DAY):
        answer = runner.do("retrain", plant)
        record.frozen = answer.get("frozen") is True
        month.say(step, f"retraining: {_told(answer)}")
    if int(story.day(step)) == int(story.day(step - 1)):
        return
    record.n_answered += answer_alarms(plant, known_faults(story.simulation))
    if int(story.day(step)) % story.monitor_days == 0:
        _monitor(month, runner, step)
    _versions(month, runner, step)


def _monitor(month: Month, runner: Runner, step: int) -> None:
    found = runner.do("monitor", month.plant)
    windows = found.get("windows") or []
    assert isinstance(windows, list)
    month.record.windows += windows
    for window in windows:
        if window["plant"] != "none":
            month.say(step, f"monitor: {window['plant']}, {window['assets']}")
    if not found["ok"]:
        month.say(step, f"monitor: {_told(found)}")


def _versions(month: Month, runner: Runner, step: int) -> None:
    """Versions come, are refused, judge, and go."""
    story, plant = month.story, month.plant
    if story.passes(step, BAD_DAY):
        month.record.bad = runner.do("contend", write_bad_plant(plant))
        month.say(step, f"a bad challenger: {_told(month.record.bad)}")
    if story.passes(step, RETRAIN_DAY):
        learn_new_regime(plant, story.simulation)
        month.record.retrained = runner.do("retrain", plant)
        month.say(step, f"retraining: {_told(month.record.retrained)}")
    for day, command in (
        (PROMOTE_DAY, ["promote", "--why", "the new load"]),
        (ROLLBACK_DAY, ["rollback", "--why", "an exercise"]),
        (AGAIN_DAY, ["promote", str(month.record.retrained.get("registered")), "--why", "back"]),
    ):
        if story.passes(step, day):
            month.say(step, _command(plant, *command))


def _command(plant: Path, name: str, *more: str) -> str:
    """One command, as people type it; what it says in a line."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = vae_anomaly([name, str(plant), *more])
    said = " ".join((out.getvalue() or error.getvalue()).split())[:160]
    return f"vae-anomaly {name}: {said}" + (f" (exit {code})" if code else "")


def _told(answer: Answer) -> str:
    if not answer["ok"]:
        return str(answer["error"])
    return ", ".join(
        f"{k} {v}" for k, v in answer.items() if k != "ok" and v not in (0, [], False, "")
    )


def _deaths(story: Story) -> dict[int, str]:
    """Who is killed in which step; nobody in the first and the last ones."""
    generator = random.Random(story.seed)
    names = [n for n, every in KILL_EVERY.items() for _ in range(max(1, story.steps // every))]
    steps = generator.sample(range(2, story.steps - 3), len(names))
    return dict(zip(steps, names, strict=True))


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def page(month: Month, found: list[Check], minutes: float) -> str:
    """The claims, and the timeline below them."""
    lines = [
        f"`python benchmarks/simulated_month.py --steps {month.story.steps} --seed "
        f"{month.story.seed}`: 30 days of three pumps in {month.story.steps} steps, {minutes:.0f} "
        "minutes, on a Prefect and an MLflow server on PostgreSQL.",
        "",
        "| claim | held | found |",
        "|---|---|---|",
        *(f"| {c.claim} | {'yes' if c.held else '**no**'} | {c.found} |" for c in found),
        "",
        "```",
        *month.timeline,
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep all of it here; else it is removed")
    parser.add_argument("--out", type=Path, help="also write the page to this file")
    options = parser.parse_args()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        month, found = run_month(Story(options.steps, options.seed), folder.absolute())
    text = page(month, found, (time.monotonic() - began) / 60)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    if not all(check.held for check in found):
        raise SystemExit("not every claim held")


if __name__ == "__main__":
    main()
