"""Flow: a trained package → thresholds against the validation ROC → the sealed package."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from pipelines.artifacts import publish
from pipelines.notify import told
from pipelines.parameters import FolderParameters
from vae_anomaly.report import calibrate_table
from vae_anomaly.steps.calibrate import CalibrateReport
from vae_anomaly.steps.calibrate import calibrate as calibrate_package
from vae_anomaly.steps.train import latest_trained


@task(name="set thresholds")
def set_thresholds(parameters: FolderParameters) -> CalibrateReport:
    """Set each threshold on the reloaded package, and seal it."""
    plant = parameters.read()
    return calibrate_package(plant, parameters.folder or latest_trained(plant))


@told
@flow(name="calibrate", flow_run_name="calibrate {parameters.name}")
def calibrate(parameters: FolderParameters) -> CalibrateReport:
    """Calibrate a trained package, and publish its operating points."""
    report = set_thresholds(parameters)
    table = calibrate_table(report)
    get_run_logger().info("%s", table.summary)
    publish(parameters.name, "calibrate", table)
    return report
