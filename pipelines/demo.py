"""The demo: a simulated plant through the whole loop, then a second batch that is scored alone."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from pipelines.ingest import ingest
from pipelines.parameters import PlantParameters
from pipelines.reach import by_hand
from pipelines.run import run
from pipelines.score import score
from vae_anomaly import demo as simulated
from vae_anomaly.terminal import show


def demo(made: simulated.Demo) -> None:
    """Run the demo, and say at its end what was found and where it lies."""
    console = Console()
    show_each = partial(show, console=console)
    parameters = PlantParameters(plant=made.plant)
    with by_hand(made.config(), show_each):
        done = run(parameters)
        console.print("[bold]A second batch[/] arrives: three more days.")
        simulated.more_rows(made)
        later = ingest(parameters)
        again = score(parameters)
    assert done.calibrated is not None  # the folder is new, so nothing was registered before
    show_each(
        simulated.summary(
            made, (done.ingested, later), done.calibrated, done.registered, (done.scored, again)
        ),
        simulated.where_things_lie(made),
    )
