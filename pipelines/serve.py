"""Serve the schedules of plants from one process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect import serve as serve_deployments
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.logging.handlers import APILogHandler
from prefect.schedules import Cron

from pipelines.ingest import ingest
from pipelines.monitor import monitor
from pipelines.names import plant_tags
from pipelines.parameters import PlantParameters
from pipelines.retrain import install_automation, retrain
from pipelines.score import score
from pipelines.webhook import AppriseMessage, SignedWebhook
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.errors import ConfigError

#: Flows that run by themselves, by the key of their line in plant.yml.
FLOWS: dict[str, Flow[..., Any]] = {  # each returns a report of its own
    "ingest": ingest,
    "score": score,
    "monitor": monitor,
    "retrain": retrain,
}


def deployments(plant: Path) -> tuple[RunnerDeployment, ...]:
    """The plant's flows on their schedules; a run that meets one under way is cancelled."""
    config = read_plant(plant)
    parameters = {"parameters": PlantParameters(plant=plant.absolute()).model_dump(mode="json")}
    one_at_a_time = ConcurrencyLimitConfig(
        limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
    )
    lines: dict[str, str | None] = dict(config.schedule.lines())
    if config.monitoring.retrain:  # the automation runs it, on a schedule or not
        lines.setdefault("retrain", None)
    return tuple(
        RunnerDeployment.from_flow(
            FLOWS[name],
            name=config.name,
            schedule=None if line is None else Cron(line, timezone=config.schedule.zone),
            parameters=parameters,
            concurrency_limit=one_at_a_time,
            tags=plant_tags(config),
            description=FLOWS[name].description,
        )
        for name, line in lines.items()
    )


def served_plants(plants: Sequence[Path]) -> dict[Path, PlantConfig]:
    """The configurations of plants that one process can serve side by side.

    Raises
    ------
    ConfigError
        Two have the same name, lake or work folder, or one has nothing to run.
    """
    found = {plant: read_plant(plant) for plant in plants}
    for what in ("name", "lake", "work"):
        first: dict[str, Path] = {}
        for plant, config in found.items():
            value = str(config.work_path) if what == "work" else str(getattr(config, what))
            if value in first:
                raise ConfigError(
                    f"{first[value]} and {plant} have the same {what}, '{value}'; give each plant "
                    "its own"
                )
            first[value] = plant
    for plant, config in found.items():
        if not config.schedule.lines():
            raise ConfigError(f"{plant}: every line of schedule is off; give one flow a cron line")
    return found


def serve(plants: Sequence[Path]) -> None:
    """Serve until interrupted, on the server that PREFECT_API_URL names.

    Parameters
    ----------
    plants : sequence of Path
        Their plant files.
    """
    for block in (SignedWebhook, AppriseMessage):  # so that the server's pages offer them
        block.register_type_and_schema()
    for plant in served_plants(plants):
        install_automation(plant)
    served = [deployment for plant in plants for deployment in deployments(plant)]
    try:
        serve_deployments(*served, print_starting_message=False)
    finally:
        APILogHandler().flush()  # what was said of killed runs, while the server is there
