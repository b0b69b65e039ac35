"""Flow runs that failed → messages: the first, then one a day, then that it works again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.lake import OUT_OF_REACH, Lake
from vae_anomaly.steps.announcement_texts import Links, RunFacts, run_message
from vae_anomaly.steps.outbox import (
    Delivered,
    Delivery,
    Message,
    Send,
    deliver,
    plan,
    read_deliveries,
    send_unkept,
)

__all__ = ["REPEATED", "announce_failure", "announce_recovery"]

logger = logging.getLogger(__name__)

#: A flow that goes on failing is told of again after so long.
REPEATED = timedelta(days=1)


def announce_failure(
    plant: PlantConfig, run: RunFacts, *, run_url: str, by_blocks: bool, send: Send
) -> Delivered:
    """Tell people that a flow run failed, unless they know that this flow fails.

    Where the lake is what fails, nothing says who knows it: then every block is told at once, and
    told again by the next run that fails.

    Parameters
    ----------
    plant : PlantConfig
    run : RunFacts
    run_url : str
        Page of the flow run; "" for none.
    by_blocks : bool
        It failed because blocks did: those of which something is still due are not told.
    send : callable
        Sends a message through a block, or raises.
    """
    links = Links(plant, "", run_url)
    sent: set[str] = set()

    def noted(block: str, message: Message) -> None:
        send(block, message)
        if message.flow == run.flow and message.kind != "works":
            sent.add(block)

    def choose(block: str, before: Sequence[Delivery]) -> list[Message]:
        failing = _failing(before, run.flow)
        if by_blocks and any(delivery.state != "sent" for delivery in before):
            return []
        if not failing:
            return [run_message(links, "failed", run, None)]
        if datetime.now(UTC) - failing[-1].due_at < REPEATED:
            return []
        return [run_message(links, "still_failing", run, failing[0].due_at)]

    try:
        return _tell(plant, choose, noted)
    except OUT_OF_REACH as error:
        logger.warning(
            "the lake takes no message down (%s); the failure is told without, and again by the "
            "next run that fails",
            error,
        )
        message = run_message(links, "failed", run, None, is_kept=False)
        unaware = [block for block in plant.notifications.blocks if block not in sent]
        return send_unkept(unaware, message, send)


def announce_recovery(plant: PlantConfig, run: RunFacts, *, run_url: str, send: Send) -> Delivered:
    """Tell those who know that a flow fails that it works again."""
    links = Links(plant, "", run_url)
    if not _failing(read_deliveries(Lake(plant.lake, plant.contract)), run.flow):
        return Delivered()

    def choose(block: str, before: Sequence[Delivery]) -> list[Message]:
        failing = _failing(before, run.flow)
        return [run_message(links, "works", run, failing[0].due_at)] if failing else []

    return _tell(plant, choose, send)


def _tell(
    plant: PlantConfig,
    choose: Callable[[str, Sequence[Delivery]], Sequence[Message]],
    send: Send,
) -> Delivered:
    blocks = plant.notifications.blocks
    if not blocks:
        return Delivered()
    lake = Lake(plant.lake, plant.contract)
    plan(lake, blocks, choose)
    return deliver(lake, blocks, send)


def _failing(before: Sequence[Delivery], flow: str) -> list[Delivery]:
    """Messages about failures of a flow since a run of it was last completed."""
    found: list[Delivery] = []
    for delivery in before:
        if delivery.message.flow == flow:
            found = [] if delivery.message.kind == "works" else [*found, delivery]
    return found
