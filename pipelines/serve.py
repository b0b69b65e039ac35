"""Serve the schedules of one plant from one process."""

from __future__ import annotations

from pathlib import Path

from prefect import serve as serve_deployments
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron

from pipelines.ingest import ingest
from pipelines.parameters import PlantParameters
from pipelines.score import score
from vae_anomaly.config import read_plant


def deployments(plant: Path) -> tuple[RunnerDeployment, ...]:
    """Ingest and score on the plant's schedules; a run that meets one under way is cancelled."""
    config = read_plant(plant)
    parameters = {"parameters": PlantParameters(plant=plant.absolute()).model_dump(mode="json")}
    one_at_a_time = ConcurrencyLimitConfig(
        limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
    )
    return tuple(
        RunnerDeployment.from_flow(
            flow,
            name=config.name,
            schedule=Cron(cron, timezone=config.schedule.zone),
            parameters=parameters,
            concurrency_limit=one_at_a_time,
            tags=["vae-anomaly", config.name],
        )
        for flow, cron in ((ingest, config.schedule.ingest), (score, config.schedule.score))
    )


def serve(plant: Path) -> None:
    """Serve until interrupted, on the server that PREFECT_API_URL names."""
    serve_deployments(*deployments(plant), print_starting_message=False)
