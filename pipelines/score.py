"""Flow: readings that the champion line has not judged → verdicts, alarms, messages."""

from __future__ import annotations

from prefect import flow, get_run_logger, task

from pipelines.artifacts import publish
from pipelines.names import rename, score_name
from pipelines.notify import announce, told
from pipelines.parameters import TIMEOUT_S, PlantParameters, may_pass
from vae_anomaly.progress import scoring_progress
from vae_anomaly.report import score_table
from vae_anomaly.steps.alarm_list import alarm_list, alarms_table
from vae_anomaly.steps.score import ScoreReport
from vae_anomaly.steps.score import score as score_readings


@task(
    name="score readings",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def judge(parameters: PlantParameters) -> ScoreReport:
    """Judge what is new; what an attempt before has committed is not judged again."""
    with scoring_progress() as on_group:
        return score_readings(parameters.read(), on_group=on_group)


@told
@flow(name="score", flow_run_name="score {parameters.name}", timeout_seconds=TIMEOUT_S)
def score(parameters: PlantParameters) -> ScoreReport:
    """Score all readings without a verdict, and tell people of the alarms.

    The range comes from the data, not from the schedule. Where people cannot be told, the run
    fails after its verdicts are written.
    """
    report = judge(parameters)
    rename(score_name(parameters.read(), report))
    table = score_table(report)
    get_run_logger().info("%s", table.summary)
    publish(parameters.name, "score", table)
    if report.alarms.raised or report.alarms.ended:
        listed = alarms_table(alarm_list(parameters.read()))
        publish(parameters.name, "alarms", listed, page_only=True)
    announce(parameters)
    return report
