"""Placeholder: the flow stands in the branch `monitor`."""

from __future__ import annotations

from prefect import flow

from pipelines.notify import told
from pipelines.parameters import PlantParameters


@told
@flow(name="monitor", flow_run_name="monitor {parameters.name}")
def monitor(parameters: PlantParameters) -> None:
    """Look for drift."""
    parameters.read()
