"""What the documentation shows can stand in a plant file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from vae_anomaly.config import PlantConfig
from vae_anomaly.data.refusals import REASONS
from vae_anomaly.streaming import STATUSES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/plant-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split(":")[0])
def test_what_is_shown_is_valid(block: str) -> None:
    base = {
        "name": "plant",
        "source": {"path": "incoming"},
        "contract": {"time": "time", "sensors": ["flow"]},
    }
    assert PlantConfig.model_validate(base | yaml.safe_load(block)).name == "plant"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_reasons_and_statuses_are_those_of_the_code() -> None:
    for reason in ("bad_time", "nonexistent_local_time", "not_a_number"):
        assert f"`{reason}`" in PAGE
        assert reason in REASONS
    for status in ("off", "unseen_mode"):
        assert f"`{status}`" in PAGE
        assert status in STATUSES
