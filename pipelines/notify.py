"""Telling people through the notification blocks of the Prefect server."""

from __future__ import annotations

import re
from inspect import isawaitable
from typing import Any, TypeVar
from uuid import UUID

from prefect import Flow, State, get_run_logger, task
from prefect.blocks import notifications as _known_to_load  # noqa: F401
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.abstract import NotificationError as NotSent
from prefect.blocks.core import Block, UnknownBlockType
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_logger
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.utilities.urls import url_for

from pipelines.parameters import PlantParameters, may_pass
from pipelines.webhook import SignedWebhook
from vae_anomaly.errors import ConfigError, NotificationError
from vae_anomaly.steps.announce import announce_alarms
from vae_anomaly.steps.announce_runs import announce_failure, announce_recovery
from vae_anomaly.steps.announcement_texts import RunFacts
from vae_anomaly.steps.outbox import Delivered, Message

__all__ = ["announce", "saved_block", "send", "tell_of_failure", "tell_of_recovery", "told"]

AFlow = TypeVar("AFlow", bound=Flow[..., Any])

#: What a signed message calls the kinds of messages.
TYPES = {
    "begin": "notifications.on", "raised": "alarm.raised", "lasts": "alarm.lasts",
    "over": "alarm.over", "failed": "flow.failed", "still_failing": "flow.still_failing",
    "works": "flow.works",
}  # fmt: skip


def saved_block(block: str) -> NotificationBlock:
    """A notification block as it is saved on the server.

    Raises
    ------
    ConfigError
        The server has none of this name, or it is for something else.
    """
    try:
        loaded = Block.load(block)
    except ValueError as error:
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise ConfigError(
            f"block '{block}' is not saved on the Prefect server; save it there, as "
            "docs/operations.md shows under Telling people, or take it out of notifications.blocks"
        ) from error
    except UnknownBlockType as error:
        raise ConfigError(f"block '{block}': {error} Install its package here") from error
    if not isinstance(loaded, NotificationBlock):
        raise ConfigError(f"block '{block}' sends no notifications; name one that does")
    return loaded


def send(block: str, message: Message) -> None:
    """Send a message through a block that is saved on the server; raises where that fails."""
    loaded = saved_block(block)
    if isinstance(loaded, SignedWebhook):
        loaded.deliver(message.message_id, TYPES[message.kind], message.subject, message.body)
        return
    try:
        with loaded.raise_on_failure():
            outcome = loaded.notify(message.body, subject=message.subject)
            if isawaitable(outcome):
                run_coro_as_sync(outcome)
    except NotSent as error:  # its text is empty, and its log may name the address
        raise NotificationError(_last_line(error.log)) from None


def _last_line(log: str) -> str:
    """What a block said last, without addresses."""
    lines = [line for line in log.splitlines() if line.strip()]
    said = re.sub(r"\b\w+://\S+|/\S+", "…", lines[-1] if lines else "")
    return said.strip() or "the block says that it could not send, and not why"


@task(
    name="tell people",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
def announce(parameters: PlantParameters) -> Delivered:
    """Tell people of alarms; what a block confirmed is not sent again by a retry."""
    done = announce_alarms(
        parameters.read(), plant_file=str(parameters.plant), run_url=_this_run(), send=send
    )
    if done.n_sent:
        get_run_logger().info("%d messages sent", done.n_sent)
    if done.n_due:
        said = "; ".join(done.errors) or "another run is sending them"
        raise NotificationError(
            f"{done.n_due} messages are still due: {said}. The verdicts are written; the messages "
            "are sent with the next run"
        )
    return done


def told(flow: AFlow) -> AFlow:
    """Decorate a flow, so that people hear of its failures and that it works again."""
    flow.on_failure(tell_of_failure)
    flow.on_crashed(tell_of_failure)
    flow.on_completion(tell_of_recovery)
    return flow


def tell_of_failure(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: a run failed or crashed."""
    plant = _parameters(flow_run).read()
    by_blocks = state.is_failed() and isinstance(
        state.result(raise_on_failure=False), NotificationError
    )
    done = announce_failure(
        plant,
        RunFacts(flow.name, str(flow_run.id), flow_run.name, state.message or state.name or ""),
        run_url=_run_page(flow_run.id),
        by_blocks=by_blocks,
        send=send,
    )
    _warn_of(done)


def tell_of_recovery(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: a run was completed; those who were told that this flow fails learn that it works."""
    run = RunFacts(flow.name, str(flow_run.id), flow_run.name)
    plant = _parameters(flow_run).read()
    _warn_of(announce_recovery(plant, run, run_url=_run_page(flow_run.id), send=send))


def _warn_of(done: Delivered) -> None:
    for error in done.errors if done.n_due else ():
        get_logger("vae_anomaly").warning("a message is sent with the next run; %s", error)


def _parameters(flow_run: FlowRun) -> PlantParameters:
    """The plant that a run is about."""
    given = flow_run.parameters["parameters"]
    return PlantParameters.model_validate(given, from_attributes=True)


def _this_run() -> str:
    context = FlowRunContext.get()
    return "" if context is None or context.flow_run is None else _run_page(context.flow_run.id)


def _run_page(run: UUID) -> str:
    return url_for("flow-run", obj_id=run) or ""
