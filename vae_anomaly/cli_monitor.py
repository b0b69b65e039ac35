"""Commands that watch the model itself: what has drifted, and a challenger for it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_anomaly.config import PlantConfig
    from vae_anomaly.steps.monitor import MonitorReport
    from vae_anomaly.table import Table

__all__ = ["MONITOR_COMMANDS", "add_monitor_options", "monitor_command_tables"]

#: Commands that this module knows.
MONITOR_COMMANDS = ("monitor", "retrain")


def add_monitor_options(sub: argparse.ArgumentParser, name: str) -> None:
    """Give a command its options."""
    if name == "monitor":
        sub.add_argument("--pictures", type=Path, help="folder for pictures of the figures")
        sub.add_argument(
            "--prefect", action="store_true", help="as a flow, also without PREFECT_API_URL"
        )
    if name == "retrain":
        sub.add_argument("--even-so", action="store_true", help="also while an alarm is open")


def monitor_command_tables(options: argparse.Namespace) -> tuple[Table, ...]:
    """Do what a command says, and tell it as tables."""
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)  # a wrong file costs no server
    if options.name == "retrain":
        return _retrained(options, plant)
    from vae_anomaly.steps.monitor_page import monitor_tables, write_monitor

    found = _monitored(options, plant)
    if options.pictures is not None:
        write_monitor(found, options.pictures, subject=plant.name)
    return monitor_tables(found)


def _monitored(options: argparse.Namespace, plant: PlantConfig) -> MonitorReport:
    if options.prefect or os.environ.get("PREFECT_API_URL"):
        from pipelines.monitor import monitor as monitor_flow
        from pipelines.names import tagged
        from pipelines.parameters import PlantParameters

        with tagged(plant):
            found: MonitorReport = monitor_flow(PlantParameters(plant=options.plant.absolute()))
        return found
    from vae_anomaly.steps.monitor import monitor

    return monitor(plant)


def _retrained(options: argparse.Namespace, plant: PlantConfig) -> tuple[Table, ...]:
    from pipelines.names import tagged
    from pipelines.retrain import RetrainParameters, retrain, retrain_tables

    with tagged(plant):
        done = retrain(RetrainParameters(plant=options.plant.absolute(), even_so=options.even_so))
    return retrain_tables(done)
