"""Flow: the main job, all steps in order."""

from __future__ import annotations

from dataclasses import dataclass

from prefect import flow

from pipelines.calibrate import calibrate
from pipelines.ingest import ingest
from pipelines.names import tagged
from pipelines.parameters import FolderParameters, PlantParameters
from pipelines.register import register
from pipelines.score import score
from pipelines.train import train
from vae_anomaly.steps.calibrate import CalibrateReport
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.register import RegisterReport
from vae_anomaly.steps.score import ScoreReport
from vae_anomaly.steps.train import TrainReport


@dataclass(frozen=True)
class RunReport:
    """The reports of all steps; `calibrated` is None where the version existed already."""

    ingested: IngestReport
    trained: TrainReport
    calibrated: CalibrateReport | None
    registered: RegisterReport
    scored: ScoreReport


@flow(name="run", flow_run_name="run {parameters.name}")
def run(parameters: PlantParameters) -> RunReport:
    """Ingest, train, calibrate, register and score; what was done before is not done again."""
    with tagged(parameters.read()):  # the flows within do not inherit tags
        ingested = ingest(parameters)
        trained = train(parameters)
        onward = FolderParameters(
            plant=parameters.plant, source=parameters.source, folder=trained.folder
        )
        calibrated = None if trained.registered else calibrate(onward)
        registered = register(onward)
        scored = score(parameters)
    return RunReport(ingested, trained, calibrated, registered, scored)
