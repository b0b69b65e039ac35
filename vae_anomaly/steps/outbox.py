"""Messages to people: written down before they are sent, so that each is told once.

A message is written as `due` for every block, with its final text and its id, in the commit that
decides to tell. To send one, its row is claimed (`sending`), and then confirmed (`sent`). A block
that confirms nothing keeps the message due, with the error; the next run sends it. A process that
is killed between sending and confirming leaves a claim, and the one after it sends that message
once more, under the same id, by which a receiver knows it. So a message is told at least once, and
none that was confirmed is sent again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import pyarrow as pa
from deltalake import DeltaTable

from vae_anomaly.data.lake import (
    ANNOUNCEMENTS,
    Lake,
    merge,
    rows,
    transaction_number,
    until_committed,
)

__all__ = [
    "LEASE",
    "Delivered",
    "Delivery",
    "Kind",
    "Message",
    "Send",
    "Told",
    "deliver",
    "message_id",
    "plan",
    "read_deliveries",
    "send_unkept",
]

logger = logging.getLogger(__name__)

#: What a message is about: notifications begin; an alarm was raised, lasts, is over; a run failed,
#: goes on failing, works again.
Kind = Literal["begin", "raised", "lasts", "over", "failed", "still_failing", "works"]

State = Literal["due", "sending", "sent"]

#: A claim that was not confirmed within so long is of a process that was killed: longer than any
#: block takes to answer or to give up.
LEASE = timedelta(seconds=60)

#: Transaction that every change of the table raises by one: two at once cannot both be first.
ANNOUNCED: Final = "announced"

#: Characters of an error that are kept.
ERROR_LENGTH = 300


@dataclass(frozen=True)
class Told:
    """What a message says of an alarm: its number of announcements, and whether it is over."""

    alarm_id: str
    n_announced: int
    is_over: bool


@dataclass(frozen=True)
class Message:
    """A message as it is sent; `message_id` is the same however often it is."""

    message_id: str
    kind: Kind
    subject: str
    body: str
    alarms: tuple[Told, ...] = ()
    flow: str = ""


@dataclass(frozen=True)
class Delivery:
    """A message on its way to one block.

    Attributes
    ----------
    block : str
        Type and name, such as ``slack-webhook/operators``.
    message : Message
    number : int
        Place in the order of all deliveries; 0 until it is written.
    state : str
    attempt : int
        How often it was sent, or tried.
    error : str
        Of the last attempt; "" when it had none.
    due_at, changed_at : datetime
    """

    block: str
    message: Message
    number: int
    state: State
    attempt: int
    error: str
    due_at: datetime
    changed_at: datetime

    @property
    def delivery_id(self) -> str:
        return f"{self.message.message_id}/{self.block}"


@dataclass(frozen=True)
class Delivered:
    """What one call of `deliver` did.

    Attributes
    ----------
    n_sent : int
        Messages that blocks confirmed.
    n_due : int
        Messages that are still due.
    errors : tuple of str
        One for each block that failed.
    """

    n_sent: int = 0
    n_due: int = 0
    errors: tuple[str, ...] = ()


#: Sends a message through a block, or raises.
Send = Callable[[str, Message], None]


def message_id(*content: str | int) -> str:
    """Name of a message by what it is about: sixteen hexadecimal digits.

    Examples
    --------
    >>> message_id("pumps", "raised", "cfad1a9e30", 1)
    'c9e840622f674ae1'
    """
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_deliveries(lake: Lake) -> list[Delivery]:
    """All deliveries in their order; nothing where none was ever due."""
    table = lake.found(ANNOUNCEMENTS)
    return [] if table is None else _read(table)


def plan(
    lake: Lake,
    blocks: Sequence[str],
    choose: Callable[[str, Sequence[Delivery]], Sequence[Message]],
) -> int:
    """Write messages down as due; returns how many.

    Parameters
    ----------
    lake : Lake
    blocks : sequence of str
    choose : callable
        Given a block and all that was ever due for it, the messages to send it now; asked again
        where another process was first.
    """
    n_due = 0

    def attempt() -> bool:
        nonlocal n_due
        table = lake.writable(ANNOUNCEMENTS)
        before, now = _read(table), datetime.now(UTC)
        known = {delivery.delivery_id for delivery in before}
        fresh: list[Delivery] = []
        for block in blocks:
            for message in choose(block, [d for d in before if d.block == block]):
                number = len(before) + len(fresh) + 1
                delivery = Delivery(block, message, number, "due", 0, "", now, now)
                if delivery.delivery_id not in known:
                    fresh.append(delivery)
        n_due = len(fresh)
        return not fresh or _write(lake, table, fresh)

    until_committed(attempt)
    return n_due


def deliver(lake: Lake, blocks: Sequence[str], send: Send) -> Delivered:
    """Send what is due, in its order; a block that fails does not stop the others.

    Parameters
    ----------
    lake : Lake
    blocks : sequence of str
    send : callable
        Its error is kept without the addresses in it, which may be secrets.
    """
    n_sent, errors = 0, []
    for block in blocks:
        while (claimed := _claim(lake, block)) is not None:
            try:
                send(block, claimed.message)
            except Exception as error:  # the outside world: a service of somebody's
                errors.append(f"{block}: {_said(error)}")
                logger.warning("message %s: %s", claimed.message.message_id, errors[-1])
                _settle(lake, replace(claimed, state="due", error=_said(error)))
                break
            _settle(lake, replace(claimed, state="sent", error=""))
            n_sent += 1
    due = [d for d in read_deliveries(lake) if d.block in blocks and d.state != "sent"]
    return Delivered(n_sent, len(due), tuple(errors))


def send_unkept(blocks: Iterable[str], message: Message, send: Send) -> Delivered:
    """Send a message that the lake does not keep: nothing remembers who got it, or did not.

    Parameters
    ----------
    blocks : iterable of str
    message : Message
    send : callable
        As for `deliver`.
    """
    n_sent, errors = 0, []
    for block in blocks:
        try:
            send(block, message)
        except Exception as error:  # the outside world, as above
            errors.append(f"{block}: {_said(error)}")
            logger.error("message %s is lost: %s", message.message_id, errors[-1])
        else:
            n_sent += 1
    return Delivered(n_sent, 0, tuple(errors))


def _claim(lake: Lake, block: str) -> Delivery | None:
    """The next message of a block, marked as being sent; None while another process sends one."""
    claimed: list[Delivery] = []

    def attempt() -> bool:
        claimed.clear()
        table = lake.found(ANNOUNCEMENTS)
        if table is None:
            return True
        now = datetime.now(UTC)
        first = next((d for d in _read(table) if d.block == block and d.state != "sent"), None)
        if first is None or (first.state == "sending" and now - first.changed_at < LEASE):
            return True
        mine = replace(first, state="sending", attempt=first.attempt + 1, changed_at=now)
        claimed.append(mine)
        return _write(lake, table, [mine])

    until_committed(attempt)
    return claimed[0] if claimed else None


def _settle(lake: Lake, delivery: Delivery) -> None:
    """Write down how an attempt ended."""
    settled = replace(delivery, changed_at=datetime.now(UTC))

    def attempt() -> bool:
        table = lake.open(ANNOUNCEMENTS)
        now = next(d for d in _read(table) if d.delivery_id == delivery.delivery_id)
        is_held = now.state == "sending" and now.attempt == delivery.attempt
        # whoever claimed it since settles it; but a confirmation is never taken back
        if now.state == "sent" or not (is_held or delivery.state == "sent"):
            return True
        return _write(lake, table, [settled])

    until_committed(attempt)


def _said(error: Exception) -> str:
    """An error without addresses, whose path may be a secret."""
    said = re.sub(r"\b\w+://\S+", "…", f"{type(error).__name__}: {error}")
    return " ".join(said.split())[:ERROR_LENGTH]


def _write(lake: Lake, table: DeltaTable, deliveries: Iterable[Delivery]) -> bool:
    entries = [{**asdict(d.message), **asdict(d), "delivery_id": d.delivery_id} for d in deliveries]
    data = pa.Table.from_pylist(entries, schema=lake.schema(ANNOUNCEMENTS))
    number = (transaction_number(table, ANNOUNCED) or 0) + 1
    return merge(table, data, "delivery_id", {ANNOUNCED: number})


def _read(table: DeltaTable) -> list[Delivery]:
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    return [_of_row(row) for row in sorted(found, key=lambda row: row["number"])]


def _of_row(row: dict[str, object]) -> Delivery:
    told = row["alarms"]
    assert isinstance(told, list)
    texts = ("message_id", "kind", "subject", "body", "flow")
    alarms = tuple(Told(**alarm) for alarm in told)
    message = Message(alarms=alarms, **{name: row[name] for name in texts})  # type: ignore[arg-type]
    names = ("block", "number", "state", "attempt", "error", "due_at", "changed_at")
    return Delivery(message=message, **{name: row[name] for name in names})  # type: ignore[arg-type]
