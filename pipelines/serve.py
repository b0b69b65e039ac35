"""Serve the schedules of plants from one process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    FlowRun,
    State,
    StateType,
)
from prefect.client.schemas.responses import SetStateStatus
from prefect.deployments.runner import RunnerDeployment
from prefect.logging import get_logger
from prefect.logging.handlers import APILogHandler
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.states import Cancelled, Crashed

from pipelines.ingest import ingest
from pipelines.monitor import monitor
from pipelines.names import plant_tags
from pipelines.notify import saved_block, tell_of_failure
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


#: States in which a run has the turn of its deployment.
HOLDING = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)


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


def end_killed_runs(config: PlantConfig) -> None:
    """Mark the runs of a plant that were killed with whoever served it, and tell people of them.

    They would hold their turn for ever: a new run is cancelled while one of them seems under way.
    On a server of one's own nobody but the next to serve the plant can know.
    """
    logger = get_logger("vae_anomaly")
    crashed: State[None] = Crashed(message="killed, together with the process that served it")
    killed: list[tuple[Flow[..., Any], FlowRun]] = []
    with get_client(sync_client=True) as client:
        for flow, run in _holding(client, config):
            is_cancelled = run.state_type is StateType.CANCELLING  # it may not crash any more
            answer = client.set_flow_run_state(run.id, Cancelled() if is_cancelled else crashed)
            if answer.status is not SetStateStatus.ACCEPT:
                logger.warning("run '%s' keeps its state: %s", run.name, answer.details)
            elif not is_cancelled:
                killed.append((flow, run))
    for flow, run in killed:  # after all turns are given back: to tell of one may fail
        logger.warning("run '%s' of %s was killed", run.name, flow.name)
        try:
            tell_of_failure(flow, run, crashed)
        except Exception as error:  # such as of parameters that nobody can read any more
            logger.warning("people are not told of run '%s': %s", run.name, error, exc_info=True)


def end_stopped_runs(config: PlantConfig) -> None:
    """Mark the runs of a plant as cancelled that a stop of their server ends; nobody is told.

    Else the next to serve the plant would take them for killed.
    """
    logger = get_logger("vae_anomaly")
    stopped: State[None] = Cancelled(message="stopped, together with the process that served it")
    with get_client(sync_client=True) as client:
        for flow, run in _holding(client, config):
            client.set_flow_run_state(run.id, stopped)
            logger.info("run '%s' of %s was stopped; the next one goes on", run.name, flow.name)


def _holding(
    client: SyncPrefectClient, config: PlantConfig
) -> Iterator[tuple[Flow[..., Any], FlowRun]]:
    """Runs of a plant that have the turn of their deployment, each with its flow."""
    under_way = FlowRunFilterStateType(any_=list(HOLDING))
    for flow in FLOWS.values():
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow.name])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[config.name])),
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=under_way)),
        )
        yield from ((flow, run) for run in runs)


class _Runner(Runner):
    """Ends at SIGTERM, as a service manager sends it, as at Ctrl-C: Prefect's leaves in a crash."""

    def handle_sigterm(self, *_: object) -> None:
        signal.raise_signal(signal.SIGINT)


def serve(plants: Sequence[Path], *, alone: bool = False) -> None:
    """Serve until interrupted or told to end, on the server that PREFECT_API_URL names.

    Parameters
    ----------
    plants : sequence of Path
        Their plant files.
    alone : bool, optional
        The server is this process's own: what seems under way there was killed.

    Raises
    ------
    ConfigError
        As `served_plants`, or a notification block is not saved on the server.
    """
    for kind in (SignedWebhook, AppriseMessage):  # so that the server's pages offer them
        kind.register_type_and_schema()
    configs = served_plants(plants)
    for config in configs.values():
        for block in config.notifications.blocks:
            saved_block(block)
    for plant, config in configs.items():
        install_automation(plant)
        if alone:
            end_killed_runs(config)
    runner = _Runner()
    for deployment in (found for plant in plants for found in deployments(plant)):
        runner.add_deployment(deployment)
    try:
        with suppress(KeyboardInterrupt):
            asyncio.run(runner.start())
        for config in configs.values() if alone else ():  # the processes of their runs have ended
            end_stopped_runs(config)
    finally:
        APILogHandler().flush()  # what was said of killed runs, while the server is there
