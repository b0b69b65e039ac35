"""Commands that watch the model itself: what has drifted, and a challenger for it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_anomaly.config import PlantConfig
    from vae_anomaly.steps.monitor import MonitorReport

__all__ = ["MONITOR_COMMANDS", "add_monitor_options", "monitor_command"]

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


def monitor_command(options: argparse.Namespace, show: Callable[..., None]) -> None:
    """Do what a command says, and show its tables as they come."""
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)  # a wrong file costs no server
    if options.name == "retrain":
        _retrain(options, plant, show)
        return
    found = _monitored(options, plant)
    from vae_anomaly.steps.monitor_page import monitor_tables, write_monitor

    if options.pictures is not None:
        write_monitor(found, options.pictures, subject=plant.name)
    show(*monitor_tables(found))


def _monitored(options: argparse.Namespace, plant: PlantConfig) -> MonitorReport:
    if options.prefect or os.environ.get("PREFECT_API_URL"):
        from pipelines.reach import by_hand

        with by_hand(plant):
            from pipelines.monitor import monitor as monitor_flow
            from pipelines.parameters import PlantParameters

            found: MonitorReport = monitor_flow(PlantParameters(plant=options.plant.absolute()))
        return found
    from vae_anomaly.steps.monitor import monitor

    return monitor(plant)


def _retrain(options: argparse.Namespace, plant: PlantConfig, show: Callable[..., None]) -> None:
    from pipelines.reach import by_hand

    with by_hand(plant, show):
        from pipelines.retrain import RetrainParameters, retrain

        retrain(RetrainParameters(plant=options.plant.absolute(), even_so=options.even_so))
