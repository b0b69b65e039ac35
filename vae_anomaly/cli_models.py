"""Commands for versions: which there are, who judges, who judged what, and history judged again."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from vae_anomaly.errors import InputError

if TYPE_CHECKING:
    from vae_anomaly.config import PlantConfig
    from vae_anomaly.table import Table

__all__ = ["MODEL_COMMANDS", "add_model_options", "model_table"]

#: Commands that this module knows.
MODEL_COMMANDS = ("models", "promote", "rollback", "archive", "history", "backfill")

#: Those that change who judges, or who could.
CHANGES = ("promote", "rollback", "archive")


def add_model_options(sub: argparse.ArgumentParser, name: str) -> None:
    """Give a command its options."""
    number = "number or alias, as `models` lists them"
    if name == "promote":
        sub.add_argument(
            "version", nargs="?", default="", metavar="VERSION",
            help=f"{number}; default the challenger",
        )  # fmt: skip
        sub.add_argument("--force", action="store_true", help="also what is archived or refused")
        sub.add_argument("--dry-run", action="store_true", help="show what is known of it only")
    if name == "archive":
        sub.add_argument("version", metavar="VERSION", help=number)
    if name in CHANGES:
        sub.add_argument("--why", default="", help="kept in the history")
        sub.add_argument("--by", default="", help="who; default VAE_ANOMALY_USER or the login name")
    if name == "history":
        sub.add_argument("--asset", default="", help="which model judged this asset; with --at")
        sub.add_argument("--at", default="", help="a day, 2026-03-03, or a moment in it")
    if name == "backfill":
        zone = "in the plant's zone unless it says another"
        sub.add_argument("--from", dest="start", required=True, metavar="TIME", help=zone)
        sub.add_argument("--to", dest="end", required=True, metavar="TIME", help="not included")
        sub.add_argument(
            "--model-version", default="", metavar="VERSION", help=f"{number}; default the champion"
        )
        sub.add_argument("--asset", default="", help="only of this one")


def model_table(options: argparse.Namespace) -> Table:
    """Do what a command says, and tell it as a table."""
    from vae_anomaly.config import read_mlflow, read_plant

    plant = read_plant(options.plant)
    if options.name in CHANGES:
        return _changed(plant, options)
    if options.name == "history":
        return _history(plant, options)
    if options.name == "backfill":
        return _backfill(plant, options)
    from vae_anomaly.report import models_table
    from vae_anomaly.steps.history import history
    from vae_anomaly.tracking import is_made, open_tracking

    # to look is no reason to make a database
    is_there = is_made(read_mlflow(plant).tracking_uri)
    return models_table(plant, open_tracking(plant).versions() if is_there else [], history(plant))


def _changed(plant: PlantConfig, options: argparse.Namespace) -> Table:
    from vae_anomaly.steps.promote import archive, promote, promote_table, rollback

    why, by = options.why, options.by
    if options.name == "rollback":
        return promote_table(rollback(plant, why=why, by=by))
    if options.name == "archive":
        return promote_table(archive(plant, options.version, why=why, by=by))
    return promote_table(
        promote(
            plant, options.version, why=why, by=by, force=options.force, dry_run=options.dry_run
        )
    )


def _history(plant: PlantConfig, options: argparse.Namespace) -> Table:
    from vae_anomaly.steps.history import history, history_table, judged_by, judged_table

    if bool(options.asset) != bool(options.at):
        raise InputError(
            "--asset and --at go together: which asset, and on which day or at which moment"
        )
    if options.asset:
        return judged_table(judged_by(plant, options.asset, options.at), options.at)
    return history_table(history(plant))


def _backfill(plant: PlantConfig, options: argparse.Namespace) -> Table:
    from vae_anomaly.progress import scoring_progress
    from vae_anomaly.steps.backfill import backfill, backfill_table

    with scoring_progress() as on_group:
        report = backfill(
            plant, options.start, options.end, model_version=options.model_version,
            asset=options.asset, on_group=on_group,
        )  # fmt: skip
    return backfill_table(report)
