"""People are told of every alarm once, whatever is killed or fails on the way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vae_anomaly.config import Contract, Notifications, PlantConfig, Source, TimeColumn
from vae_anomaly.data.lake import ALARMS, Lake, merge
from vae_anomaly.data.schemas import TABLES
from vae_anomaly.steps import announce_runs, outbox
from vae_anomaly.steps.announce import announce_alarms
from vae_anomaly.steps.announce_runs import announce_failure, announce_recovery
from vae_anomaly.steps.announcement_texts import RunFacts
from vae_anomaly.steps.outbox import Delivered, Message, Send, read_deliveries

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
OPERATORS, OFFICE = "slack-webhook/operators", "custom-webhook/office"


class Inbox:
    """What each block was sent; a block may be broken."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.got: list[tuple[str, Message]] = []

    def send(self, block: str, message: Message) -> None:
        if block in self.broken:
            raise ConnectionError("https://hooks.example/secret-token does not answer")
        self.got.append((block, message))

    def of(self, block: str) -> list[Message]:
        return [message for name, message in self.got if name == block]


class Killed(BaseException):
    """What stands here for SIGKILL: nothing in the library catches it."""


def plant_in(folder: Path, **notifications: object) -> PlantConfig:
    given = {"blocks": (OPERATORS,), **notifications}
    return PlantConfig(
        name="pumps",
        lake=str(folder / "lake"),
        source=Source(path="incoming"),
        contract=Contract(
            time=TimeColumn(column="time", zone="Europe/Berlin"), asset="asset", sensors=("flow",)
        ),
        notifications=Notifications.model_validate(given),
    )


def alarm(
    number: int, *, asset: str = "p1", state: str = "active", n: int = 1
) -> dict[str, object]:
    """An alarm as the table has it, raised `number` hours after the first."""
    start = BEGIN + number * timedelta(hours=1)
    return {
        "alarm_id": f"{asset}-{number}", "line": "champion", "asset": asset, "start": start,
        "raised": start + timedelta(minutes=5), "end": start + timedelta(minutes=20),
        "closed": None, "state": state, "n_rows": 3, "n_raised": 1, "n_announced": n,
        "peak_score": 8.0 + number, "peak_time": start + timedelta(minutes=10),
        "peak_version": "4", "top_sensors": ["flow", "power"], "top_contributions": [5.0, 3.0],
        "top_directions": ["high", "low"], "model_version": "4", "updated_at": start,
    }  # fmt: skip


def write(plant: PlantConfig, *alarms: dict[str, object]) -> None:
    lake = Lake(plant.lake, plant.contract)
    table = lake.writable(ALARMS)
    number = (table.transaction_version("champion") or 0) + 1
    data = pa.Table.from_pylist(list(alarms), schema=TABLES[ALARMS])
    assert merge(table, data, "alarm_id", {"champion": number})


def tell(plant: PlantConfig, send: Send) -> Delivered:
    return announce_alarms(plant, plant_file="plant.yml", run_url="http://prefect/run", send=send)


def begun(folder: Path, **notifications: object) -> tuple[PlantConfig, Inbox]:
    """A plant whose blocks were told that notifications are on."""
    plant, inbox = plant_in(folder, **notifications), Inbox()
    write(plant, alarm(-1, asset="p0", state="ended"))
    tell(plant, inbox.send)
    inbox.got.clear()
    return plant, inbox


def test_every_alarm_is_told_once_through_every_block(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE))
    write(plant, alarm(0), alarm(1, asset="p2", state="ended"))
    assert tell(plant, inbox.send) == Delivered(n_sent=4)
    assert tell(plant, inbox.send) == Delivered()
    for block in (OPERATORS, OFFICE):
        assert [m.subject for m in inbox.of(block)] == [
            "pumps: alarm, p1: flow high, power low",
            "pumps: alarm, p2: flow high, power low",
        ]


def test_a_message_says_what_a_person_needs(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, report_url="https://plant.example/{plant}/{asset}?a={alarm_id}")
    write(plant, alarm(0, asset="p 1"))
    tell(plant, inbox.send)
    (message,) = inbox.of(OPERATORS)
    assert message.body.splitlines() == [
        "p 1: flow high, power low",
        "since 2026-03-01 01:00 Europe/Berlin; active",
        "peak score 8 at 2026-03-01 01:10 Europe/Berlin",
        "alarm p 1-0, by model version 4",
        "answer it: vae-anomaly label plant.yml p 1-0 --as fault|false-alarm|maintenance|unknown",
        "report: https://plant.example/pumps/p%201?a=p%201-0",
        "flow run: http://prefect/run",
        f"message {message.message_id}",
    ]


def test_alarms_of_before_are_no_news_and_the_active_ones_are_told_in_one_message(
    tmp_path: Path,
) -> None:
    plant, inbox = plant_in(tmp_path), Inbox()
    write(plant, *(alarm(i, state="ended") for i in range(30)), alarm(30), alarm(2, asset="p2"))
    tell(plant, inbox.send)
    (message,) = inbox.of(OPERATORS)
    assert message.subject == "pumps: notifications are on, 2 alarms are active"
    assert "alarm p1-30" in message.body
    assert "alarm p2-2" in message.body
    write(plant, alarm(31))
    tell(plant, inbox.send)
    assert [told.alarm_id for told in inbox.of(OPERATORS)[1].alarms] == ["p1-31"]


def test_a_block_that_is_added_later_begins_with_what_is_active_then(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path)
    write(plant, alarm(0))
    tell(plant, inbox.send)
    more = plant.model_copy(update={"notifications": Notifications(blocks=(OPERATORS, OFFICE))})
    tell(more, inbox.send)
    assert [m.kind for m in inbox.of(OPERATORS)] == ["raised"]
    assert [m.kind for m in inbox.of(OFFICE)] == ["begin"]


@pytest.mark.slow
def test_an_alarm_that_lasts_is_told_again_and_its_end_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    for cleared in (False, True):
        plant, inbox = begun(tmp_path / str(cleared), cleared=cleared)
        for state, n in (("active", 1), ("active", 1), ("active", 3), ("ended", 3), ("ended", 3)):
            write(plant, alarm(0, state=state, n=n))
            tell(plant, inbox.send)
        kinds = [message.kind for message in inbox.of(OPERATORS)]
        assert kinds == ["raised", "lasts"] + ["over"] * cleared


def test_an_alarm_that_was_over_when_it_was_told_is_not_told_to_be_over(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, cleared=True)
    write(plant, alarm(0, state="ended"))
    tell(plant, inbox.send)
    tell(plant, inbox.send)
    assert [message.kind for message in inbox.of(OPERATORS)] == ["raised"]


def test_a_flood_is_one_message_with_the_first_and_the_worst(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, flood=3)
    write(plant, *(alarm(i, asset=f"p{i % 2 + 1}") for i in range(3)))
    tell(plant, inbox.send)
    assert len(inbox.of(OPERATORS)) == 3
    write(plant, *(alarm(i, asset=f"p{i % 2 + 1}") for i in range(3, 9)))
    tell(plant, inbox.send)
    flood = inbox.of(OPERATORS)[3:]
    assert [message.subject for message in flood] == ["pumps: 6 alarms on 2 assets"]
    assert "first: p2: flow high, power low, since 2026-03-01 04:00" in flood[0].body
    assert "worst: p1: flow high, power low, since 2026-03-01 09:00" in flood[0].body
    assert tell(plant, inbox.send).n_sent == 0


def test_a_broken_block_stops_no_other_and_gets_its_messages_later_in_order(
    tmp_path: Path,
) -> None:
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE))
    inbox.broken = {OPERATORS}
    write(plant, alarm(0), alarm(1))
    done = tell(plant, inbox.send)
    assert (done.n_sent, done.n_due) == (2, 2)
    assert done.errors == (f"{OPERATORS}: ConnectionError: … does not answer",)
    lake = Lake(plant.lake, plant.contract)
    (failed,) = [d for d in read_deliveries(lake) if d.error]
    assert (failed.state, failed.attempt) == ("due", 1)
    assert "secret-token" not in failed.error
    inbox.broken = set()
    write(plant, alarm(2))
    assert tell(plant, inbox.send) == Delivered(n_sent=4)
    assert [m.alarms[0].alarm_id for m in inbox.of(OPERATORS)] == ["p1-0", "p1-1", "p1-2"]
    assert not [d for d in read_deliveries(lake) if d.error or d.state != "sent"]


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_repeats_at_most_the_message_that_was_being_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    plant, inbox = begun(tmp_path)
    write(plant, *(alarm(i) for i in range(4)))

    def killed_at_third(block: str, message: Message) -> None:
        if len(inbox.got) == 2:
            if after:
                inbox.send(block, message)
            raise Killed
        inbox.send(block, message)

    with pytest.raises(Killed):
        tell(plant, killed_at_third)
    # the claim stands: as long as it may be another process's, nothing is sent, and it is said
    assert tell(plant, inbox.send) == Delivered(n_due=2)
    monkeypatch.setattr(outbox, "LEASE", timedelta(0))
    assert tell(plant, inbox.send) == Delivered(n_sent=2)
    ids = Counter(message.message_id for message in inbox.of(OPERATORS))
    assert sorted(ids.values()) == [1, 1, 1, 1 + after]
    assert ids[inbox.got[2][1].message_id] == 1 + after


def test_who_was_overtaken_takes_no_confirmation_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim ran out, another process sent the message, and then its own attempt fails."""
    plant, inbox = begun(tmp_path)
    write(plant, alarm(0))

    def overtaken(block: str, message: Message) -> None:
        monkeypatch.setattr(outbox, "LEASE", timedelta(0))
        assert tell(plant, inbox.send).n_sent == 1
        raise ConnectionError("too late")

    tell(plant, overtaken)
    assert tell(plant, inbox.send) == Delivered()
    assert len(inbox.of(OPERATORS)) == 1


def test_of_processes_at_the_same_time_one_sends_each_message(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE))
    write(plant, *(alarm(i) for i in range(3)))

    def slowly(block: str, message: Message) -> None:
        time.sleep(0.1)  # long enough for the others to find the claim
        inbox.send(block, message)

    threads = [threading.Thread(target=tell, args=(plant, slowly)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(plant, inbox.send)  # what a process left to another that was busy
    for block in (OPERATORS, OFFICE):
        told = [message.alarms[0].alarm_id for message in inbox.of(block)]
        assert told == [f"p1-{i}" for i in range(3)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_whatever_fails_on_the_way_each_stage_of_an_alarm_is_confirmed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Against the plain count of stages, with kills, broken blocks and any cut of the calls."""
    monkeypatch.setattr(outbox, "LEASE", timedelta(0))
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE), cleared=True, flood=100)
    generator = np.random.default_rng(seed)
    killed: list[tuple[str, str]] = []

    def send(block: str, message: Message) -> None:
        kind = generator.choice(["fine", "broken", "killed before", "killed after"],
                                p=[0.7, 0.1, 0.1, 0.1])  # fmt: skip
        if kind == "broken":
            raise ConnectionError("no answer")
        if kind != "killed before":
            inbox.send(block, message)
        if kind.startswith("killed"):
            killed.append((block, message.message_id))
            raise Killed

    for number in range(4):
        for state in ("active", "ended"):
            write(plant, alarm(number, state=state))
            if generator.random() < 0.6:
                with suppress(Killed):
                    tell(plant, send)
    assert tell(plant, inbox.send).n_due == 0
    for block in (OPERATORS, OFFICE):
        seen = Counter(message.message_id for message in inbox.of(block))
        for name, times in seen.items():
            assert times <= 1 + killed.count((block, name))
        stages = Counter(
            told.alarm_id
            for message in {m.message_id: m for m in inbox.of(block)}.values()
            if message.kind == "raised"
            for told in message.alarms
        )
        assert stages == {f"p1-{number}": 1 for number in range(4)}


def failing(plant: PlantConfig, run: int, send: Send, *, by_blocks: bool = False) -> Delivered:
    facts = RunFacts("score", f"run-{run}", f"score pumps {run}", "RegistryError: no champion")
    return announce_failure(
        plant, facts, run_url="http://prefect/run", by_blocks=by_blocks, send=send
    )


def working(plant: PlantConfig, run: int, send: Send) -> Delivered:
    facts = RunFacts("score", f"run-{run}", f"score pumps {run}")
    return announce_recovery(plant, facts, run_url="http://prefect/run", send=send)


def test_a_flow_that_fails_is_told_first_then_daily_then_that_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, inbox = plant_in(tmp_path), Inbox()
    working(plant, 0, inbox.send)
    for run in (1, 2, 3):
        failing(plant, run, inbox.send)
    assert [m.subject for m in inbox.of(OPERATORS)] == ["pumps: score failed"]
    assert "'score pumps 1' failed: RegistryError: no champion" in inbox.got[0][1].body
    monkeypatch.setattr(announce_runs, "REPEATED", timedelta(0))
    failing(plant, 4, inbox.send)
    working(plant, 5, inbox.send)
    working(plant, 6, inbox.send)
    failing(plant, 7, inbox.send)
    assert [m.kind for m in inbox.of(OPERATORS)] == ["failed", "still_failing", "works", "failed"]


def test_a_run_that_failed_is_told_once_however_often_its_hook_is_called(tmp_path: Path) -> None:
    plant, inbox = plant_in(tmp_path), Inbox()
    failing(plant, 1, inbox.send)
    working(plant, 1, inbox.send)
    failing(plant, 1, inbox.send)
    assert [m.kind for m in inbox.of(OPERATORS)] == ["failed", "works"]


def test_a_block_that_does_not_answer_is_told_to_the_others(tmp_path: Path) -> None:
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE))
    inbox.broken = {OPERATORS}
    write(plant, alarm(0))
    tell(plant, inbox.send)
    failing(plant, 1, inbox.send, by_blocks=True)
    assert [m.kind for m in inbox.of(OFFICE)] == ["raised", "failed"]
    inbox.broken = set()
    tell(plant, inbox.send)
    working(plant, 2, inbox.send)
    assert [m.kind for m in inbox.of(OPERATORS)] == ["raised"]
    assert [m.kind for m in inbox.of(OFFICE)] == ["raised", "failed", "works"]


def lose(plant: PlantConfig) -> None:
    """Put a file in the lake's place, so that no table can be read, made or written."""
    lake = Path(plant.lake)
    if lake.exists():
        lake.rename(lake.with_name("lost"))
    lake.write_text("no folder")


def test_where_the_lake_itself_fails_every_failure_is_told_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plant, inbox = begun(tmp_path, blocks=(OPERATORS, OFFICE))
    lose(plant)
    inbox.broken = {OPERATORS}
    done = failing(plant, 1, inbox.send)
    assert (done.n_sent, done.n_due) == (1, 0)
    assert done.errors == (f"{OPERATORS}: ConnectionError: … does not answer",)
    inbox.broken = set()
    assert failing(plant, 2, inbox.send) == Delivered(n_sent=2)
    assert [m.kind for m in inbox.of(OFFICE)] == ["failed", "failed"]
    assert [m.kind for m in inbox.of(OPERATORS)] == ["failed"]
    first, again = inbox.of(OFFICE)
    assert first.message_id != again.message_id
    assert "could not take this message down: each further failure is told too" in first.body
    assert "the failure is told without, and again by the next run that fails" in caplog.text
    assert f"message {first.message_id} is lost: {OPERATORS}" in caplog.text


@pytest.mark.parametrize("before", [False, True])
def test_a_lake_that_fails_while_it_is_told_repeats_no_message(
    tmp_path: Path, before: bool
) -> None:
    """One block was told when the lake went; the other hears of it all the same."""
    plant, inbox = plant_in(tmp_path, blocks=(OPERATORS, OFFICE)), Inbox()

    def send(block: str, message: Message) -> None:
        inbox.send(block, message)
        if len(inbox.got) == 1:
            lose(plant)

    if before:  # what goes out first is of another flow, and says nothing of this one
        inbox.broken = {OPERATORS, OFFICE}
        facts = RunFacts("ingest", "run-0", "ingest pumps", "no file")
        announce_failure(plant, facts, run_url="", by_blocks=False, send=inbox.send)
        inbox.broken = set()
    failing(plant, 1, send)
    told = {block: [m.flow for m in inbox.of(block)] for block in (OPERATORS, OFFICE)}
    assert told == {OPERATORS: ["ingest"] * before + ["score"], OFFICE: ["score"]}


def test_without_blocks_nobody_is_told_and_no_table_is_made(tmp_path: Path) -> None:
    plant, inbox = plant_in(tmp_path, blocks=()), Inbox()
    write(plant, alarm(0))
    assert tell(plant, inbox.send) == failing(plant, 1, inbox.send) == Delivered()
    assert not (tmp_path / "lake/announcements").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"blocks": ["operators"]}, "its type and its name"),
        ({"blocks": [OFFICE, OFFICE]}, "stands there twice"),
        ({"report_url": "https://x/{alarm}"}, "names {alarm}; allowed in braces: {plant}"),
        ({"report_url": "https://x/{alarm"}, "allowed in braces"),
        ({"flood": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("{", r"\{")):
        Notifications.model_validate(given)
