"""Placeholder: the flow stands in the branch `monitor`."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from pipelines.notify import told
from pipelines.parameters import PlantParameters


@told
@flow(name="retrain", flow_run_name="retrain {parameters.name}")
def retrain(parameters: PlantParameters) -> None:
    """Train a challenger."""
    parameters.read()


def install_automation(plant: Path) -> None:
    """Retrain on drift."""
