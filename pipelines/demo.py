"""The demo: a simulated plant through the whole loop, then a second batch that is scored alone."""

from __future__ import annotations

from rich.console import Console

from pipelines.ingest import ingest
from pipelines.names import tagged
from pipelines.parameters import PlantParameters
from pipelines.run import run
from pipelines.score import score
from vae_anomaly import demo as simulated
from vae_anomaly import report
from vae_anomaly.terminal import show


def demo(made: simulated.Demo) -> None:
    """Run the demo, and say at its end what was found and where it lies."""
    console = Console()
    parameters = PlantParameters(plant=made.plant)
    with tagged(made.config()):
        done = run(parameters)
    assert done.calibrated is not None  # the folder is new, so nothing was registered before
    for table in (
        report.ingest_table(done.ingested),
        *report.data_tables(done.trained),
        report.train_table(done.trained),
        report.calibrate_table(done.calibrated),
        report.register_table(done.registered),
        report.score_table(done.scored),
    ):
        show(table, console)
    console.print("[bold]A second batch[/] arrives: three more days.")
    simulated.more_rows(made)
    with tagged(made.config()):
        later = ingest(parameters)
        again = score(parameters)
    show(report.ingest_table(later), console)
    show(report.score_table(again), console)
    found = simulated.summary(
        made, (done.ingested, later), done.calibrated, done.registered, (done.scored, again)
    )
    show(found, console)
    show(simulated.where_things_lie(made), console)
