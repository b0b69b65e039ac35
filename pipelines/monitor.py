"""Flow: what has drifted since the champion has learnt, and an event where it is the regime."""

from __future__ import annotations

from uuid import NAMESPACE_URL, uuid5

from prefect import flow, get_run_logger, task
from prefect.events import emit_event

from pipelines.artifacts import publish
from pipelines.notify import told
from pipelines.parameters import TIMEOUT_S, PlantParameters, may_pass
from vae_anomaly.steps.drift_rows import Window
from vae_anomaly.steps.monitor import MonitorReport, note_told
from vae_anomaly.steps.monitor import monitor as monitor_plant
from vae_anomaly.steps.monitor_page import event_figures, monitor_tables

#: Event that says that a plant runs otherwise than its champion has learnt.
REGIME = "vae-anomaly.drift.regime"


def resource_id(plant: str) -> str:
    """Resource that the events of a plant are of.

    Examples
    --------
    >>> resource_id("pumps")
    'vae-anomaly.plant.pumps'
    """
    return f"vae-anomaly.plant.{plant}"


@task(
    name="compare windows",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def compare(parameters: PlantParameters) -> MonitorReport:
    """Judge the windows that are new; what an attempt before has stored is not judged again."""
    return monitor_plant(parameters.read())


@told
@flow(name="monitor", flow_run_name="monitor {parameters.name}", timeout_seconds=TIMEOUT_S)
def monitor(parameters: PlantParameters) -> MonitorReport:
    """Hold what has come against what the champion has learnt, and say what has drifted."""
    report = compare(parameters)
    tables = monitor_tables(report)
    get_run_logger().info("%s", tables[0].summary)
    # by what was not told yet: what was judged before a kill, or by hand, is told now
    changed = [window for window in report.untold if window.plant.kind == "regime"]
    if changed:
        tell_regime(parameters.name, report, changed[-1])
    note_told(parameters.read(), report)
    publish(parameters.name, "drift", *tables)
    return report


def tell_regime(plant: str, report: MonitorReport, window: Window) -> None:
    """Emit the event that the automation of `pipelines.retrain` answers."""
    emit_event(
        event=REGIME,
        id=uuid5(NAMESPACE_URL, f"{resource_id(plant)}/{report.line}/{window.number}"),
        resource={"prefect.resource.id": resource_id(plant), "prefect.resource.name": plant},
        payload={
            "kind": window.plant.kind,
            "reason": window.plant.reason,
            "sensors": list(window.plant.columns),
            "model_version": report.model_version,
            "window": [window.start_text, window.end_text],
            "figures": event_figures(report, window),
        },
    )
