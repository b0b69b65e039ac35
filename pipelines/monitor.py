"""Placeholder: the flow stands in the branch `monitor`."""

from __future__ import annotations

from prefect import flow

from pipelines.parameters import PlantParameters


@flow(name="monitor", flow_run_name="monitor {parameters.name}")
def monitor(parameters: PlantParameters) -> None:
    """Look for drift."""
    parameters.read()
