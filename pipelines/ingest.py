"""Flow: files of the source → the lake, each row accepted, quarantined or duplicate."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from pipelines.artifacts import publish
from pipelines.names import ingest_name, rename
from pipelines.notify import told
from pipelines.parameters import TIMEOUT_S, PlantParameters, may_pass
from vae_anomaly.progress import ingest_progress
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.ingest import ingest as ingest_files
from vae_anomaly.steps.ingest_page import ingest_table


@task(
    name="ingest files",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def read_source(parameters: PlantParameters) -> IngestReport:
    """Read what is new in the source."""
    with ingest_progress() as on_file:
        return ingest_files(parameters.read(), on_file=on_file)


@told
@flow(name="ingest", flow_run_name="ingest {parameters.name}", timeout_seconds=TIMEOUT_S)
def ingest(parameters: PlantParameters) -> IngestReport:
    """Read what is new in the source into the lake, and publish the counts."""
    report = read_source(parameters)
    rename(ingest_name(parameters.read(), report))
    table = ingest_table(report)
    get_run_logger().info("%s", table.summary)
    publish(parameters.name, "ingest", table)
    return report
