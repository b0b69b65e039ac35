"""Tables on the pages of the Prefect server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from prefect.artifacts import create_markdown_artifact

from vae_anomaly.table import Table

__all__ = ["artifact_key", "publish", "published"]

#: Who else is told of a table, in a process that a person waits for.
_listener: ContextVar[Callable[..., None] | None] = ContextVar("listener", default=None)


@contextmanager
def published(on_tables: Callable[..., None]) -> Iterator[None]:
    """Call with the tables of each step within as they are published, so as the step ends.

    Parameters
    ----------
    on_tables : callable
        Takes one table or several.
    """
    token = _listener.set(on_tables)
    try:
        yield
    finally:
        _listener.reset(token)


def artifact_key(plant: str, name: str) -> str:
    """Key of an artifact: a plant's own, since the server lists the latest of each key.

    Examples
    --------
    >>> artifact_key("Pump_House 2", "score")
    'pump-house-2-score'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{plant}-{name}".lower()).strip("-")


def publish(plant: str, name: str, table: Table, *more: Table, page_only: bool = False) -> None:
    """Put tables on the page of the run; the first one's summary is what a list of artifacts shows.

    Prefect shows the description above the text, so what stands there is not said again.
    """
    if not page_only and (on_tables := _listener.get()) is not None:
        on_tables(table, *more)
    body = "\n\n".join([table.body(), *(other.markdown() for other in more)]).strip()
    create_markdown_artifact(
        key=artifact_key(plant, name),
        markdown=body or table.summary,
        description=table.summary if body else None,
    )
