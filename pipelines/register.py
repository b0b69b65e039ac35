"""Flow: a sealed package → a version in the MLflow registry, champion or challenger."""

from __future__ import annotations

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run

from pipelines.artifacts import publish
from pipelines.notify import told
from pipelines.parameters import FolderParameters, may_pass
from vae_anomaly.report import register_table
from vae_anomaly.steps.register import RegisterReport
from vae_anomaly.steps.register import register as register_package
from vae_anomaly.steps.train import latest_trained


@task(
    name="register version",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def register_version(parameters: FolderParameters) -> RegisterReport:
    """Register the package, look at the test part once, and decide who scores."""
    plant = parameters.read()
    folder = parameters.folder or latest_trained(plant)
    link = flow_run.ui_url or ""
    return register_package(plant, folder, link=link, contends=parameters.contends)


@told
@flow(name="register", flow_run_name="register {parameters.name}")
def register(parameters: FolderParameters) -> RegisterReport:
    """Register a calibrated package, and publish its figures beside the baselines'."""
    report = register_version(parameters)
    table = register_table(report)
    get_run_logger().info("%s", table.summary)
    publish(parameters.name, "register", table)
    return report
