"""Flow: a new challenger on the readings as they stand; and the automation that asks for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from pydantic import Field

from pipelines.artifacts import publish
from pipelines.calibrate import calibrate
from pipelines.monitor import REGIME, resource_id
from pipelines.names import plant_tags, tagged
from pipelines.notify import told
from pipelines.parameters import TRAIN_TIMEOUT_S, FolderParameters, PlantParameters
from pipelines.register import register
from pipelines.train import train
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.report import register_table
from vae_anomaly.steps.freeze import Freeze, frozen
from vae_anomaly.steps.register import RegisterReport
from vae_anomaly.table import Table


class RetrainParameters(PlantParameters):
    """A plant, and whether to train although alarms are open."""

    even_so: bool = Field(default=False, description="train although an alarm is open")


@dataclass(frozen=True)
class RetrainReport:
    """The challenger; none where learning is frozen."""

    freeze: Freeze
    registered: RegisterReport | None = None


@told
@flow(name="retrain", flow_run_name="retrain {parameters.name}", timeout_seconds=TRAIN_TIMEOUT_S)
def retrain(parameters: RetrainParameters) -> RetrainReport:
    """Train a challenger, unless an alarm is open; it does not score before it is promoted."""
    plant = parameters.read()
    freeze = frozen(plant)
    if freeze and not parameters.even_so:
        get_run_logger().warning("%s", freeze.in_words())
        report = RetrainReport(freeze)
        publish(plant.name, "retrain", *retrain_tables(report))
        return report
    with tagged(plant):  # the flows within do not inherit tags
        trained = train(PlantParameters(plant=parameters.plant, source=parameters.source))
        onward = FolderParameters(
            plant=parameters.plant, source=parameters.source, folder=trained.folder, contends=True
        )
        if not trained.registered:
            calibrate(onward)
        return RetrainReport(freeze, register(onward))


def retrain_tables(report: RetrainReport) -> tuple[Table, ...]:
    """What became of a retraining."""
    if report.registered is None:
        return (Table("Retrain", f"Nothing trained: {report.freeze.in_words()}.", (), ()),)
    return (register_table(report.registered),)


def install_automation(plant: Path) -> None:
    """Let a change of regime run the deployment `retrain`, on the server of PREFECT_API_URL.

    The same again changes nothing, and an automation that somebody paused stays so; where
    `monitoring.retrain` is false, what was installed goes. A deployment that is not there yet is
    made without a schedule.

    Parameters
    ----------
    plant : Path
        The plant file.
    """
    config = read_plant(plant)
    name = f"vae-anomaly {config.name}: retrain on a change of regime"
    with get_client(sync_client=True) as client:
        known = client.read_automations_by_name(name)
        if not config.monitoring.retrain:
            for automation in known:
                client.delete_automation(automation.id)
            return
        wanted = _automation(name, config, _deployment_id(client, plant, config))
        if known:
            wanted.enabled = known[0].enabled
            client.update_automation(known[0].id, wanted)
        else:
            client.create_automation(wanted)


def _deployment_id(client: SyncPrefectClient, plant: Path, config: PlantConfig) -> UUID:
    try:
        return client.read_deployment_by_name(f"retrain/{config.name}").id
    except ObjectNotFound:
        parameters = PlantParameters(plant=plant.absolute()).model_dump(mode="json")
        made = RunnerDeployment.from_flow(
            retrain,
            name=config.name,
            parameters={"parameters": parameters},
            tags=plant_tags(config),
        ).apply()
        assert isinstance(made, UUID)  # a coroutine only inside an event loop
        return made


def _automation(name: str, plant: PlantConfig, deployment: UUID) -> AutomationCore:
    return AutomationCore(
        name=name,
        description="Trains a challenger, which does not score before it is promoted.",
        enabled=True,
        tags=plant_tags(plant),
        trigger=EventTrigger(
            expect={REGIME},
            match=ResourceSpecification.model_validate(
                {"prefect.resource.id": resource_id(plant.name)}
            ),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[RunDeployment(deployment_id=deployment)],
    )
