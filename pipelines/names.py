"""Names of flow runs that say what was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from prefect import tags
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from vae_anomaly.config import PlantConfig

if TYPE_CHECKING:  # they import torch, which a server that does not answer is not worth
    from vae_anomaly.steps.file_records import IngestReport
    from vae_anomaly.steps.score import ScoreReport


def rename(name: str) -> None:
    """Give the run that is under way another name; without Prefect there is none to name."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    with get_client(sync_client=True) as client:
        client.set_flow_run_name(context.flow_run.id, name)


def plant_tags(plant: PlantConfig) -> list[str]:
    """Tags of everything of a plant on the server, by which its pages are filtered."""
    return ["vae-anomaly", plant.name]


@contextmanager
def tagged(plant: PlantConfig) -> Iterator[None]:
    """Give runs that are started by hand the tags that deployments give theirs."""
    with tags(*plant_tags(plant)):
        yield


def score_name(plant: PlantConfig, report: ScoreReport) -> str:
    """Name of a run that scored: the plant, and the range of what was really scored."""
    if report.first_time is None or report.last_time is None:
        return f"score {plant.name}: nothing to score"
    zone = ZoneInfo(plant.contract.time.zone)
    span = f"{_minute(report.first_time, zone)} → {_minute(report.last_time, zone)}"
    return f"score {plant.name} {span}, {report.n_rows:,} rows"


def ingest_name(plant: PlantConfig, report: IngestReport) -> str:
    """Name of a run that ingested: the plant, and what was read."""
    n_read = report.counts.n_read
    return f"ingest {plant.name}: " + (f"{n_read:,} rows read" if n_read else "nothing new")


def _minute(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M}"
