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
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

from month.checks import Check, checks
from month.operator import answer_alarms, known_faults
from month.receiver import receiving, save_block
from month.record import Death, Month
from month.runner import KILLED, Answer, Runner
from month.schedule import (
    GOES_ON_S,
    deploy,
    has_run,
    kill_worker,
    mark_crashed,
    runs_of_worker,
    scheduled_runs,
)
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

#: Those without whom no flow runs: while one of them is down, a flow may fail.
NEEDED = ("prefect", "postgres")


def run_month(story: Story, folder: Path) -> tuple[Month, list[Check]]:
    """Live through a month; returns what was seen, and what held."""
    month = Month(story, folder)
    simulation = story.simulation
    write_plant(folder, simulation)
    write_files(simulation, folder / "incoming", 0, HISTORY * DAY, rows_per_file=HISTORY * DAY)
    with (
        receiving() as month.record.received,
        servers(folder / "stack") as environment,
        _environment(environment),
    ):
        runner = Runner(environment, folder / "runner.log")
        try:
            save_block(month.record.received.url, environment)
            month.say(-1, _told(_asked(month, runner, -1, "run")))
            deploy(month.plant, environment)
            deaths = _deaths(story)
            for step in range(story.steps):
                _step(month, runner, step, deaths.get(step, ""))
            _await_schedule(month)
            month.record.scheduled = scheduled_runs(environment)
            answer = _asked(month, runner, story.steps - 1, "hour")  # what others have left
            month.record.hours += [answer] if answer["ok"] else []
            spent = ", ".join(f"{k} {v} s" for k, v in runner.seconds.most_common())
            print(f"the flows took: {spent}")
        finally:
            runner.stop()
        return month, list(checks(story, month.plant, month.record))


def _step(month: Month, runner: Runner, step: int, victim: str) -> None:
    """A file arrives, and is ingested and scored, whatever dies meanwhile; then people act."""
    story, record = month.story, month.record
    first, n_rows = story.rows(step)
    write_files(story.simulation, month.folder / "incoming", first, n_rows, rows_per_file=n_rows)
    if not victim and _is_left(month, step):
        month.say(step, f"left to the worker: {_told(_asked(month, runner, step, 'ingest'))}")
    else:
        answer = live_hour(month, runner, step, victim)
        if answer["ok"]:
            record.hours.append({**answer, "victim": victim})
            if answer["raised"]:
                month.say(step, _told(answer))
            if story.day(step) == int(story.day(step)) and not answer["cached"]:
                day = moment(story.simulation, story.day(step)) - timedelta(seconds=600)
                record.champions[day.isoformat()] = str(answer["version"])
    _people(month, runner, step)


def live_hour(month: Month, runner: Runner, step: int, victim: str) -> Answer:
    """Ingest and score while somebody dies; whoever really did is counted, and started again."""
    if not victim:
        return _asked(month, runner, step, "hour")
    if victim == "runner":
        answer = runner.do("hour", month.plant, kill_after_s=_when(month, step))
        if answer.get("error") == KILLED:
            month.record.deaths.append(Death(victim, time.time(), with_run=True))
            month.say(step, "runner killed")
        elif answer["ok"]:
            month.say(step, f"runner done before it could be killed: {_told(answer)}")
        else:
            month.failed(step, "hour", answer)
        return answer
    with _death(month, step, victim) as dying:
        answer = runner.do("hour", month.plant)
    _after_death(month, step, Death(victim, time.time(), bool(dying.result())))
    month.say(step, f"meanwhile: {_told(answer)}")
    if not answer["ok"] and (victim not in NEEDED or "ended" in answer):
        month.failed(step, "hour", answer)
    return answer


@contextlib.contextmanager
def _death(month: Month, step: int, victim: str) -> Iterator[Future[bool | None]]:
    """Kill somebody at a moment of the block; MLflow before it, so that it is missed."""
    act = partial(kill, service=victim)
    if victim == "worker":
        act = partial(kill_worker, is_under_way=partial(has_run, os.environ))
    with ThreadPoolExecutor(1) as aside:
        after_s = 0.0 if victim == "mlflow" else _when(month, step)
        dying = aside.submit(act, month.folder / "stack", after_s=after_s)
        if victim == "mlflow":
            dying.result()
        yield dying


def _after_death(month: Month, step: int, death: Death) -> None:
    """What people do: free the turn of a run that died, start what is gone."""
    how = {True: " with a run", False: ", idle"}[death.with_run] if death.name == "worker" else ""
    if death.with_run and month.story.is_short:  # it is over before the run's lease is
        n_runs = mark_crashed(os.environ)
        how += f"; {n_runs} marked as crashed, by hand"
    if death.name in heal(month.folder / "stack"):
        month.record.deaths.append(death)
        month.say(step, f"{death.name} killed{how}")
    else:
        month.failed(step, "kill", {"ok": False, "error": f"{death.name} lives on"})


def _asked(month: Month, runner: Runner, step: int, name: str, plant: Path | None = None) -> Answer:
    """A command while all is well, of the month's plant or another; a failure of it is said."""
    answer = runner.do(name, plant or month.plant)
    if not answer["ok"]:
        month.failed(step, name, answer)
    return answer


def _is_left(month: Month, step: int) -> bool:
    """Whether the worker, killed before, is to score: while it has a run, and at the end."""
    is_last = step == month.story.steps - 1
    if month.story.acts(step) or not _is_missed(month):
        return False
    return is_last or bool(runs_of_worker(month.folder / "stack"))


def _is_missed(month: Month) -> bool:
    """Whether the worker was killed, and its schedule has still to show that it goes on."""
    if all(death.name != "worker" for death in month.record.deaths):
        return False
    month.record.scheduled = scheduled_runs(os.environ)
    return not month.record.went_on


def _await_schedule(month: Month) -> None:
    """Wait, not for ever, until a run of the schedule has scored after the worker was killed."""
    began, last = time.monotonic(), month.story.steps - 1
    if not _is_missed(month):
        return
    month.say(last, f"up to {GOES_ON_S} s for the worker to score what is left to it")
    while (waited := time.monotonic() - began) < GOES_ON_S and _is_missed(month):
        time.sleep(1)
    said = "has not" if _is_missed(month) else "has"
    month.say(last, f"the worker {said}, after {waited:.0f} s")


def _when(month: Month, step: int) -> float:
    return random.Random(f"{month.story.seed}/{step}").uniform(*DIES_WITHIN_S)


def _people(month: Month, runner: Runner, step: int) -> None:
    """What is done once a day, and on the days of the story."""
    story, record = month.story, month.record
    if story.passes(step, FREEZE_DAY):
        record.frozen = _asked(month, runner, step, "retrain")
        month.say(step, f"retraining: {_told(record.frozen)}")
    if int(story.day(step)) == int(story.day(step - 1)):
        return
    answer_alarms(month.plant, known_faults(story.simulation))
    if int(story.day(step)) % story.monitor_days == 0:
        _monitor(month, runner, step)
    _versions(month, runner, step)


def _monitor(month: Month, runner: Runner, step: int) -> None:
    found = _asked(month, runner, step, "monitor")
    windows = found.get("windows") or []
    assert isinstance(windows, list)
    month.record.windows += windows
    for window in windows:
        if window["plant"] != "none":
            month.say(step, f"monitor: {window['plant']}, {window['assets']}")


def _versions(month: Month, runner: Runner, step: int) -> None:
    """Versions come, are refused, judge, and go."""
    story, plant = month.story, month.plant
    if story.passes(step, BAD_DAY):
        month.record.bad = _asked(month, runner, step, "contend", write_bad_plant(plant))
        month.say(step, f"a bad challenger: {_told(month.record.bad)}")
    if story.passes(step, RETRAIN_DAY):
        learn_new_regime(plant, story.simulation)
        month.record.retrained = _asked(month, runner, step, "retrain")
        month.say(step, f"retraining: {_told(month.record.retrained)}")
    for day, command in (
        (PROMOTE_DAY, ["promote", "--why", "the new load"]),
        (ROLLBACK_DAY, ["rollback", "--why", "an exercise"]),
        (AGAIN_DAY, ["promote", str(month.record.retrained.get("registered")), "--why", "back"]),
    ):
        if story.passes(step, day):
            _command(month, step, *command)


def _command(month: Month, step: int, name: str, *more: str) -> None:
    """One command, as people type it; what it says goes into a line."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = vae_anomaly([name, str(month.plant), *more])
    said = " ".join((out.getvalue() or error.getvalue()).split())[:160]
    if code:
        month.failed(step, name, {"ok": False, "error": f"exit {code}, {said}"})
    else:
        month.say(step, f"vae-anomaly {name}: {said}")


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
