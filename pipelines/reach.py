"""Flows that a person starts: under the tags of their plant, on a server that answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from pipelines.artifacts import published
from pipelines.names import tagged
from vae_anomaly.config import PlantConfig
from vae_anomaly.errors import StackError

__all__ = ["by_hand", "reaching_prefect"]

#: How Prefect begins what it says of a server that it cannot talk to.
NOT_REACHED = "Failed to reach API"


@contextmanager
def by_hand(
    plant: PlantConfig, on_tables: Callable[..., None] = lambda *tables: None
) -> Iterator[None]:
    """Give what runs within the tags of a plant, on the server that Prefect is told to use.

    Parameters
    ----------
    plant : PlantConfig
    on_tables : callable, optional
        Called with the tables of each step as it ends, also where a later one fails.

    Raises
    ------
    StackError
        It does not answer, or refuses the password.
    """
    with reaching_prefect(), tagged(plant), published(on_tables):
        yield


@contextmanager
def reaching_prefect() -> Iterator[None]:
    """Say in a sentence that the server of PREFECT_API_URL cannot be used, before or meanwhile.

    Raises
    ------
    StackError
        It does not answer, or refuses the password.
    """
    url = PREFECT_API_URL.value()
    try:
        if url:
            with get_client(sync_client=True) as client:
                client.raise_for_api_version_mismatch_once()
        yield
    except (RuntimeError, httpx.HTTPError) as error:
        if not url or not _is_of_server(error, url):
            raise
        shown = str(httpx.URL(url).copy_with(userinfo=b""))
        raise StackError(_said(error, shown)) from error


def _is_of_server(error: RuntimeError | httpx.HTTPError, url: str) -> bool:
    if not isinstance(error, httpx.HTTPError):
        return NOT_REACHED in str(error)
    try:
        asked, server = error.request.url, httpx.URL(url)
    except RuntimeError:  # of no request
        return False
    return (asked.host, asked.port) == (server.host, server.port)


def _said(error: Exception, url: str) -> str:
    leave = "or run without a server of your own: unset PREFECT_API_URL PREFECT_API_AUTH_STRING"
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        if status in (401, 403):
            return (
                f"Prefect at {url} refuses the password; set PREFECT_API_AUTH_STRING (of a stack: "
                f'eval "$(vae-anomaly stack env)"), {leave}'
            )
        return f"Prefect at {url} fails with status {status}; look at its log, {leave}"
    cause = error.__cause__ or error
    return (
        f"Prefect at {url} does not answer ({cause}). Start it (of a stack: `vae-anomaly stack "
        f"up`), {leave}"
    )
