"""Commands for alarms: what was raised, what people say of it, and a threshold by that."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.errors import InputError

if TYPE_CHECKING:
    from vae_anomaly.config import PlantConfig
    from vae_anomaly.table import Table

__all__ = ["ALARM_COMMANDS", "add_alarm_options", "alarm_table"]

#: Commands that this module knows.
ALARM_COMMANDS = ("alarms", "explain", "label", "recalibrate")

#: What may be said of an alarm, as it is typed.
VERDICTS = ("fault", "false-alarm", "maintenance", "unknown", "failure")


def add_alarm_options(sub: argparse.ArgumentParser, name: str) -> None:
    """Give a command its options."""
    if name == "alarms":
        sub.add_argument("--asset", default="", help="only of this asset")
        unsaid = "only those of which nobody has said yet what they were"
        sub.add_argument("--open", dest="unsaid_only", action="store_true", help=unsaid)
        sub.add_argument(
            "--days", type=float, default=30.0, help="up to the last verdict; default 30"
        )
        sub.add_argument(
            "--horizon", type=float, default=7.0, metavar="DAYS",
            help="how long before a failure an alarm is of use; default 7",
        )  # fmt: skip
    if name == "explain":
        sub.add_argument("alarm", metavar="ALARM_ID", help="as `alarms` lists them")
    if name == "label":
        sub.add_argument("alarms", nargs="*", metavar="ALARM_ID", help="as `alarms` lists them")
        sub.add_argument("--as", dest="verdict", choices=VERDICTS, help="what the alarms were")
        sub.add_argument("--fault", default="", help="name of the fault")
        sub.add_argument("--who", default="", help="who says so; default the login name")
        sub.add_argument("--comment", default="", help="kept beside it")
        sub.add_argument("--from", dest="file", type=Path, help="a CSV file of labels")
        sub.add_argument(
            "--asset", default="", help="that failed; of spans in the file that name none"
        )
        sub.add_argument("--at", default="", metavar="TIME", help="when it failed, in ISO 8601")
    if name == "recalibrate":
        sub.add_argument("--dry-run", action="store_true", help="say it, and register nothing")
        sub.add_argument(
            "--most-growth", type=float, default=0.15, metavar="SHARE",
            help="by how much the smallest shift may grow that is found soon; default 0.15",
        )  # fmt: skip


def alarm_table(options: argparse.Namespace) -> Table:
    """Do what a command says, and tell it as a table."""
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    if options.name == "label":
        return _label(plant, options)
    if options.name == "explain":
        from vae_anomaly.steps.explain import explain_alarm, explain_table

        return explain_table(explain_alarm(plant, options.alarm))
    if options.name == "recalibrate":
        from vae_anomaly.steps.recalibrate import recalibrate, recalibrate_table

        return recalibrate_table(
            recalibrate(plant, dry_run=options.dry_run, most_growth=options.most_growth)
        )
    from vae_anomaly.steps.alarm_list import alarm_list, alarms_table

    return alarms_table(
        alarm_list(
            plant, asset=options.asset, days=options.days, horizon_days=options.horizon,
            unsaid_only=options.unsaid_only,
        )
    )  # fmt: skip


def _label(plant: PlantConfig, options: argparse.Namespace) -> Table:
    from vae_anomaly.steps.label import import_labels, label_alarms, label_failure, label_table

    if options.verdict == "failure":
        if options.alarms or options.file is not None or not (options.asset and options.at):
            raise InputError("a failure is of an asset at a moment: give --asset and --at, no ids")
        return label_table(
            label_failure(
                plant, options.asset, options.at, fault=options.fault, who=options.who,
                comment=options.comment,
            )
        )  # fmt: skip
    if options.at:
        raise InputError("--at is for a failure; an alarm is named by its id")
    if (options.file is None) == (not options.alarms):
        raise InputError("give the ids of alarms and --as, or a file with --from")
    if options.file is not None:
        if options.verdict or options.fault or options.comment:
            raise InputError("--as, --fault and --comment are for ids; the rows of a file have own")
        return label_table(import_labels(plant, options.file, asset=options.asset, who=options.who))
    if options.verdict is None:
        raise InputError(f"say what the alarms were: --as {'|'.join(VERDICTS)}")
    return label_table(
        label_alarms(
            plant, options.alarms, options.verdict, fault=options.fault, who=options.who,
            comment=options.comment,
        )
    )  # fmt: skip
