"""Commands for alarms: what was raised."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_anomaly.table import Table

__all__ = ["ALARM_COMMANDS", "add_alarm_options", "alarm_table"]

#: Commands that this module knows.
ALARM_COMMANDS = ("alarms",)


def add_alarm_options(sub: argparse.ArgumentParser, name: str) -> None:
    """Give a command its options."""
    sub.add_argument("--asset", default="", help="only of this asset")
    sub.add_argument("--days", type=float, default=30.0, help="up to the last verdict; default 30")


def alarm_table(options: argparse.Namespace) -> Table:
    """Do what a command says, and tell it as a table."""
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    from vae_anomaly.steps.alarm_list import alarm_list, alarms_table

    return alarms_table(alarm_list(plant, asset=options.asset, days=options.days))
