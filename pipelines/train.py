"""Flow: readings → a trained package and its MLflow run."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from pipelines.artifacts import publish
from pipelines.notify import told
from pipelines.parameters import TRAIN_TIMEOUT_S, PlantParameters, may_pass
from vae_anomaly.progress import training_progress
from vae_anomaly.report import data_tables, train_table
from vae_anomaly.steps.train import TrainReport
from vae_anomaly.steps.train import train as train_plant


@task(
    name="train model",
    retries=1,
    retry_delay_seconds=30,
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def fit(parameters: PlantParameters) -> TrainReport:
    """Train, or go on from the checkpoint of a run that was cut off."""
    with training_progress() as on_check:
        return train_plant(parameters.read(), on_check=on_check)


@told
@flow(name="train", flow_run_name="train {parameters.name}", timeout_seconds=TRAIN_TIMEOUT_S)
def train(parameters: PlantParameters) -> TrainReport:
    """Train on the readings as they stand, unless that was done before."""
    report = fit(parameters)
    if tables := data_tables(report):
        publish(parameters.name, "data", *tables)
    table = train_table(report)
    get_run_logger().info("%s", table.summary)
    publish(parameters.name, "train", table)
    return report
