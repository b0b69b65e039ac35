"""The command line. A command is a library function; `run`, `demo` and `serve` go through Prefect.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.cli_alarms import ALARM_COMMANDS, add_alarm_options, alarm_table
from vae_anomaly.cli_models import MODEL_COMMANDS, add_model_options, model_table
from vae_anomaly.cli_monitor import (
    MONITOR_COMMANDS,
    add_monitor_options,
    monitor_command,
)
from vae_anomaly.cli_stack import add_stack_options, stack_command
from vae_anomaly.cli_uses import USES, add_use_options, use_table
from vae_anomaly.errors import SourceError, VAEAnomalyError

if TYPE_CHECKING:
    from vae_anomaly.table import Table

__all__ = ["main", "parser"]

#: Sensible where nobody has said otherwise; what stands in the environment wins.
ENVIRONMENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",  # what fails is raised, and told by this command
    "PREFECT_CLI_PROMPT": "false",
    "RUST_LOG": "warn,aws_config=error",  # what a store says of its keys is told in one sentence
}

#: Modules whose warnings stand in the tables that the commands print.
TOLD_BY_TABLES = ("vae_anomaly.steps.ingest", "vae_anomaly.steps.train")

EPILOG = """\
examples:
  vae-anomaly init incoming/ --out plant.yml    look at files, and write the plant file for them
  vae-anomaly demo                              a simulated plant, through the whole loop
  vae-anomaly run plant.yml                     ingest, train, calibrate, register, score
  vae-anomaly ingest plant.yml --source new/    only read what is new
  vae-anomaly score plant.yml                   only score what has no verdict yet
  vae-anomaly models plant.yml                  which versions there are, and which one scores
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = parser().parse_args(arguments)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        with _said(verbose=options.verbose):
            command(options)
    except VAEAnomalyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _said(*, verbose: bool) -> Iterator[None]:
    """Let the library's loggers say what a person wants to read, for as long as a command lasts."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    levels = {"vae_anomaly": logging.INFO if verbose else logging.WARNING}
    levels |= {} if verbose else dict.fromkeys(TOLD_BY_TABLES, logging.ERROR)
    before = {name: logging.getLogger(name).level for name in levels}
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"vae-anomaly {version('vae-anomaly')}")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """What the command line understands."""
    every = argparse.ArgumentParser(
        prog="vae-anomaly",
        description="Learn what normal looks like, and say which readings are not.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    every.add_argument("--version", action=_Version, help="which version this is")
    every.add_argument("-v", "--verbose", action="store_true", help="say what each step does")
    commands = every.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (command, words, example) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=words,
            description=words[0].upper() + words[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(command=command, name=name)
        if name == "demo":
            sub.add_argument("--folder", type=Path, default=Path("demo"), help="where it all goes")
            continue
        if name == "init":
            _add_init_options(sub)
            continue
        if name == "stack":
            add_stack_options(sub)
            continue
        if name == "serve":
            sub.add_argument("plants", type=Path, nargs="+", metavar="plant.yml")
            continue
        sub.add_argument("plant", type=Path, metavar="plant.yml", help="the plant file")
        for commands_of, add_options in TOPICS:
            if name in commands_of:
                add_options(sub, name)
        _add_step_options(sub, name)
    return every


def _add_step_options(sub: argparse.ArgumentParser, name: str) -> None:
    if name in ("check", "ingest", "run"):
        sub.add_argument("--source", help="file, folder or glob in place of source.path")
    if name == "survey":
        sub.add_argument("--pictures", type=Path, help="folder for the page and its pictures")
    if name in ("calibrate", "register"):
        sub.add_argument("--folder", type=Path, help="a training; default the latest one")
    if name in STEPS:
        sub.add_argument(
            "--prefect", action="store_true", help="as a flow, also without PREFECT_API_URL"
        )


def _add_init_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("files", nargs="+", metavar="FILES", help="files, a folder, a glob or a URL")
    sub.add_argument("--out", type=Path, default=Path("plant.yml"), help="default plant.yml")
    sub.add_argument("--name", default="", help="of the plant; default that of the files")
    sub.add_argument("--dry-run", action="store_true", help="print the plant file, write nothing")
    sub.add_argument("--force", action="store_true", help="replace a plant file that is there")


# -------------------------------------------------------------------------------------- commands


def _init(options: argparse.Namespace) -> None:
    from vae_anomaly.steps.init import init, init_table

    report = init(
        options.files, options.out, name=options.name, dry_run=options.dry_run, force=options.force
    )
    if options.dry_run:
        print(report.text, end="")
    else:
        _show(init_table(report))


def _check(options: argparse.Namespace) -> None:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant, source=options.source)
    from vae_anomaly.progress import check_progress
    from vae_anomaly.steps.check import check, check_table

    with check_progress() as on_file:
        report = check(plant, on_file=on_file)
    _show(check_table(report))
    if not report.is_clean:
        raise SourceError("not every row would be accepted; the reasons stand above")


def _step(options: argparse.Namespace) -> None:
    """One step, as a flow where Prefect is asked for, else as the plain function."""
    if options.prefect or os.environ.get("PREFECT_API_URL"):
        _as_flow(options)
    else:
        _show(STEPS[options.name](options))


def _ingest(options: argparse.Namespace) -> Table:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant, source=options.source)
    from vae_anomaly.progress import ingest_progress
    from vae_anomaly.steps.ingest import ingest
    from vae_anomaly.steps.ingest_page import ingest_table

    with ingest_progress() as on_file:
        report = ingest(plant, on_file=on_file)
    table = ingest_table(report)
    if report.with_status("quarantined") and not report.counts.n_accepted:
        _show(table)
        raise SourceError("no row was accepted, and a file is quarantined; its reason stands above")
    return table


def _train(options: argparse.Namespace) -> Table:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.progress import training_progress
    from vae_anomaly.report import train_table
    from vae_anomaly.steps.train import train

    with training_progress() as on_check:
        return train_table(train(plant, on_check=on_check))


def _calibrate(options: argparse.Namespace) -> Table:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.report import calibrate_table
    from vae_anomaly.steps.calibrate import calibrate
    from vae_anomaly.steps.train import latest_trained

    return calibrate_table(calibrate(plant, options.folder or latest_trained(plant)))


def _register(options: argparse.Namespace) -> Table:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.report import register_table
    from vae_anomaly.steps.register import register
    from vae_anomaly.steps.train import latest_trained

    return register_table(register(plant, options.folder or latest_trained(plant)))


def _score(options: argparse.Namespace) -> Table:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.progress import scoring_progress
    from vae_anomaly.report import score_table
    from vae_anomaly.steps.score import score

    with scoring_progress() as on_group:
        return score_table(score(plant, on_group=on_group))


def _as_flow(options: argparse.Namespace) -> None:
    """The same step through its flow, on the server that PREFECT_API_URL names."""
    from importlib import import_module

    from vae_anomaly.config import read_plant

    # a wrong file costs no server
    plant = read_plant(options.plant, source=getattr(options, "source", None))
    from pipelines.reach import by_hand

    with by_hand(plant, _show):
        from pipelines.parameters import FolderParameters, PlantParameters

        given = {"plant": options.plant.absolute(), "source": _absolute(options)}
        if hasattr(options, "folder"):
            parameters: PlantParameters = FolderParameters(**given, folder=options.folder)
        else:
            parameters = PlantParameters(**given)
        getattr(import_module(f"pipelines.{options.name}"), options.name)(parameters)


def _run(options: argparse.Namespace) -> None:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant, source=options.source)
    from pipelines.reach import by_hand

    with by_hand(plant, _show):
        from pipelines.parameters import PlantParameters
        from pipelines.run import run

        run(PlantParameters(plant=options.plant.absolute(), source=_absolute(options)))
    from vae_anomaly.report import places_table

    _show(places_table(read_plant(options.plant), options.plant))


def _demo(options: argparse.Namespace) -> None:
    from vae_anomaly.demo import prepare

    print(f"Simulating four pumps for two weeks in {options.folder}/incoming …\n", flush=True)
    made = prepare(options.folder.absolute())
    # a database of its own, so that the page of the demo shows the demo; read by the import below
    home = made.plant.parent / "prefect"
    home.mkdir()
    os.environ.setdefault("PREFECT_HOME", str(home))
    from pipelines.demo import demo

    demo(made)


def _serve(options: argparse.Namespace) -> None:
    from vae_anomaly.config import read_plant

    plants = [read_plant(plant) for plant in options.plants]  # a wrong file costs no server
    os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"  # what each run did
    from contextlib import ExitStack

    from pipelines.server import local_server

    alone = not os.environ.get("PREFECT_API_URL")
    with ExitStack() as stack:
        if alone:
            print("Starting a Prefect server on this machine …", flush=True)
            address = stack.enter_context(local_server())
            os.environ["PREFECT_API_URL"] = f"{address}/api"
            print(f"Prefect page: {address}")
        from pipelines.reach import reaching_prefect  # reads PREFECT_API_URL when it is imported

        stack.enter_context(reaching_prefect())
        for plant in plants:
            lines = [f"{flow} at '{line}'" for flow, line in plant.schedule.lines().items()]
            print(f"Serving '{plant.name}': {', '.join(lines)} ({plant.schedule.zone}).")
        print("Ctrl-C ends it.", flush=True)
        from pipelines.serve import serve

        serve(options.plants, alone=alone)
        print("stopped")


def _models(options: argparse.Namespace) -> None:
    _show(model_table(options))


def _survey(options: argparse.Namespace) -> None:
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.steps.survey import survey
    from vae_anomaly.steps.survey_page import survey_tables, write_survey

    found = survey(plant)
    _show(*survey_tables(found))
    if options.pictures is not None:
        print(f"written to {write_survey(found, options.pictures)}")


def _alarms(options: argparse.Namespace) -> None:
    _show(alarm_table(options))


def _monitor(options: argparse.Namespace) -> None:
    monitor_command(options, _show)


def _use(options: argparse.Namespace) -> None:
    _show(use_table(options))


def _stack(options: argparse.Namespace) -> None:
    for table in stack_command(options):
        _show(table)


def _show(*tables: Table) -> None:
    from rich.console import Console

    from vae_anomaly.terminal import show

    show(*tables, console=Console())


def _absolute(options: argparse.Namespace) -> str | None:
    """The --source option, so that a flow in another folder finds it."""
    source = getattr(options, "source", None)
    return None if source is None else str(Path.cwd() / source)


#: Commands of a topic, and what gives them their options.
TOPICS: tuple[tuple[Collection[str], Callable[[argparse.ArgumentParser, str], None]], ...] = (
    (USES, add_use_options),
    (ALARM_COMMANDS, add_alarm_options),
    (MODEL_COMMANDS, add_model_options),
    (MONITOR_COMMANDS, add_monitor_options),
)

STEPS: dict[str, Callable[[argparse.Namespace], Table]] = {
    "ingest": _ingest,
    "train": _train,
    "calibrate": _calibrate,
    "register": _register,
    "score": _score,
}

#: command → function, what it does, an example
COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], str, str]] = {
    "init": (_init, "look at files as they are and write a plant file with comments for them",
             "vae-anomaly init incoming/*.csv --out plant.yml"),
    "check": (_check, "hold the files against the plant file, and write nothing",
              "vae-anomaly check plant.yml --source incoming/"),
    "run": (_run, "ingest, train, calibrate, register and score, in this order",
            "vae-anomaly run plant.yml --source incoming/2026-11/"),
    "ingest": (_step, "read what is new in the source into the lake",
               "vae-anomaly ingest plant.yml --source incoming/"),
    "train": (_step, "train on the readings as they stand, unless that was done before",
              "vae-anomaly train plant.yml"),
    "calibrate": (_step, "set the thresholds of a trained model and seal its package",
                  "vae-anomaly calibrate plant.yml"),
    "register": (_step, "register a sealed package; champion if the gate of mlflow.yml holds",
                 "vae-anomaly register plant.yml"),
    "score": (_step, "score every reading that has no verdict yet", "vae-anomaly score plant.yml"),
    "alarms": (_alarms, "list the alarms, the latest first, and what they ask of people",
               "vae-anomaly alarms plant.yml --days 7 --open"),
    "explain": (_alarms, "say which readings would have made the peak of an alarm normal",
                "vae-anomaly explain plant.yml 9ec0ed"),
    "label": (_alarms, "say what alarms were, or read labels from a file",
              "vae-anomaly label plant.yml 9ec0ed --as false-alarm --comment 'start-up'\n"
              "  vae-anomaly label plant.yml --as failure --asset pump-07 --at 2026-03-03T10:00\n"
              "  vae-anomaly label plant.yml --from labels.csv"),
    "recalibrate": (_alarms, "set the thresholds anew by what people said of alarms",
                    "vae-anomaly recalibrate plant.yml --dry-run"),
    "monitor": (_monitor, "say what has drifted from what the champion has learnt",
                "vae-anomaly monitor plant.yml --pictures drift/"),
    "retrain": (_monitor, "train a challenger on the readings, unless an alarm is open",
                "vae-anomaly retrain plant.yml"),
    "survey": (_survey, "show what the lake holds: rows by hour, missing cells, the quarantine",
               "vae-anomaly survey plant.yml --pictures survey/"),
    "models": (_models, "list the registered versions and which one scores",
               "vae-anomaly models plant.yml"),
    "promote": (_models, "let a version score from now on, by default the challenger",
                "vae-anomaly promote plant.yml --dry-run\n"
                "  vae-anomaly promote plant.yml 7 --why 'new bearings'"),
    "rollback": (_models, "let the version score again that scored before",
                 "vae-anomaly rollback plant.yml --why 'too many alarms'"),
    "archive": (_models, "take a version out of use", "vae-anomaly archive plant.yml 3"),
    "history": (_models, "list who scored when, or say which model judged an asset",
                "vae-anomaly history plant.yml --asset pump-7 --at 2026-03-03"),
    "backfill": (_models, "judge readings of the past with any version, beside the champion",
                 "vae-anomaly backfill plant.yml --from 2026-03-01 --to 2026-03-08 "
                 "--model-version 7"),
    "generate": (_use, "draw new rows of the plant from a model, as a table and a picture",
                 "vae-anomaly generate plant.yml --n 1000 --out rows.csv"),
    "interpolate": (_use, "go from one reading to another through the latent space",
                    "vae-anomaly interpolate plant.yml --asset pump-01 --from 2026-03-01T10:00 "
                    "--to 2026-03-02T10:00 --spherical"),
    "augment": (_use, "make new normal rows near those that a model was trained on",
                "vae-anomaly augment plant.yml --n 5000 --out more.parquet"),
    "embed": (_use, "say where each reading lies in the latent space, as a table and a map",
              "vae-anomaly embed plant.yml --color asset --map tsne --out embedding/"),
    "traverse": (_use, "move one latent at a time and show what the sensors do",
                 "vae-anomaly traverse plant.yml --out latents.csv"),
    "serve": (_serve, "run the flows of plants on their schedules, from one process",
              "vae-anomaly serve pumps.yml fans.yml"),
    "stack": (_stack, "run PostgreSQL, Prefect, MLflow and a worker on this machine",
              "vae-anomaly stack up --folder stack\n"
              "  vae-anomaly stack status --folder stack\n"
              "  eval \"$(vae-anomaly stack env --folder stack)\"\n"
              "  vae-anomaly stack down --folder stack"),
    "demo": (_demo, "run a simulated plant with known faults through the whole loop",
             "vae-anomaly demo --folder demo"),
}  # fmt: skip
