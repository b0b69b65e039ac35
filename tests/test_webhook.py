"""Messages on their way through a real Prefect server to a receiver that checks each signature."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash import run_all, write_file, write_plant
from webhook_receiver import SECRET, Receiver

from vae_anomaly.config import read_plant
from vae_anomaly.steps.ingest import ingest as ingest_files


def test_a_block_signs_what_it_posts_and_hides_its_secrets(receiver: Receiver) -> None:
    from pipelines.webhook import SignedWebhook

    block = SignedWebhook(url=receiver.url, secret=SECRET)
    block.deliver("0123456789abcdef", "alarm.raised", "pumps: alarm", "über 90 °C")
    assert receiver.messages == {
        "0123456789abcdef": {"subject": "pumps: alarm", "text": "über 90 °C"}
    }
    assert "secret-token" not in repr(block)
    assert SECRET not in repr(block)


def test_an_address_of_apprise_gets_the_message_or_the_failure_is_raised(
    receiver: Receiver,
) -> None:
    from prefect.blocks.abstract import NotificationError

    from pipelines.webhook import AppriseMessage

    block = AppriseMessage(url=receiver.url.replace("http:", "json:"))
    with block.raise_on_failure():
        block.notify("flow high", subject="pumps: alarm")
        assert receiver.plain == [("pumps: alarm", "flow high")]
        receiver.answers = [500]
        with pytest.raises(NotificationError):
            block.notify("flow high", subject="pumps: alarm")


@pytest.mark.parametrize("secret", ["", "whsec_", "nö"])
def test_a_secret_that_is_no_key_is_refused(secret: str) -> None:
    from pipelines.webhook import SignedWebhook

    with pytest.raises(ValueError, match="make one with"):
        SignedWebhook(url="http://127.0.0.1/", secret=secret)


@pytest.fixture
def told_plant(
    prefect_server: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A plant with a champion whose notifications go to the receiver, within a real server."""
    from prefect.blocks.notifications import CustomWebhookNotificationBlock
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )

    from pipelines.ingest import read_source
    from pipelines.notify import announce
    from pipelines.webhook import SignedWebhook

    for patient in (announce, read_source):
        monkeypatch.setattr(patient, "retry_delay_seconds", [0.1, 0.1])
    plant = write_plant(tmp_path, baseline=True)
    run_all(read_plant(plant))
    plant.write_text(
        plant.read_text()
        + "notifications: {blocks: [signed-webhook/operators, custom-webhook/office]}\n"
    )
    settings = {
        PREFECT_API_URL: f"{prefect_server}/api", PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }  # fmt: skip
    with temporary_settings(settings):
        SignedWebhook(url=receiver.url, secret=SECRET).save("operators", overwrite=True)
        office = CustomWebhookNotificationBlock(
            name="office",
            url="http://127.0.0.1:9/hook?token=secret-token",
            json_data={"t": "{{body}}"},
        )
        office.save("office", overwrite=True)
        yield plant


@pytest.mark.slow
def test_alarms_and_failures_reach_a_receiver_once(told_plant: Path, receiver: Receiver) -> None:
    """One block works, answers 500 once and hangs up once; the other never answers."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from pipelines.ingest import ingest
    from pipelines.parameters import PlantParameters
    from pipelines.score import score
    from vae_anomaly.errors import NotificationError, SourceError

    parameters = PlantParameters(plant=told_plant)
    with pytest.raises(NotificationError, match="custom-webhook/office: ConnectError") as failed:
        score(parameters)
    assert "secret-token" not in str(failed.value)
    assert receiver.types() == ["notifications.on", "flow.failed"]

    told_plant.write_text(told_plant.read_text().replace(", custom-webhook/office", ""))
    write_file(told_plant.parent / "incoming/9.csv", 9, n_rows=400, seed=0)
    ingest_files(read_plant(told_plant))
    receiver.answers = [500, 0]
    report = score(parameters)
    assert report.n_rows
    raised = receiver.types()[2:]
    assert raised[-1] == "flow.works"
    assert set(raised[:-1]) == {"alarm.raised"}
    # the one that was hung up on came twice under one id, and is one message
    assert len(receiver.requests) == len(receiver.messages) + 2
    assert score(parameters).n_rows == 0
    assert receiver.types()[2:] == raised

    (told_plant.parent / "incoming").rename(told_plant.parent / "elsewhere")
    for _ in range(2):
        with pytest.raises(SourceError):
            ingest(parameters)
    (told_plant.parent / "elsewhere").rename(told_plant.parent / "incoming")
    ingest(parameters)
    assert receiver.types()[2 + len(raised) :] == ["flow.failed", "flow.works"]
    assert len(receiver.messages) == len({name for name, _ in receiver.requests})

    lake = Path(read_plant(told_plant).lake)
    lake.rename(lake.with_name("lost"))
    lake.write_text("no folder, such as a disk that is not there")
    for _ in range(2):
        with pytest.raises(OSError, match="Not a directory"):
            ingest(parameters)
    lake.unlink()
    lake.with_name("lost").rename(lake)
    assert receiver.types()[4 + len(raised) :] == ["flow.failed", "flow.failed"]

    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs(flow_run_filter=FlowRunFilter())]
    assert "score crash: nothing to score" in names
    assert any(re.fullmatch(r"score crash \S+ \S+ → \S+ \S+, [\d,]+ rows", n) for n in names), names
    assert "ingest crash: nothing new" in names
