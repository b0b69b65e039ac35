"""A month on real servers that are killed now and then: every claim holds at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from month.story import Story
from simulated_month import run_month


@pytest.mark.slow
def test_every_claim_holds_after_a_month_in_sixty_steps(tmp_path: Path) -> None:
    month, found = run_month(Story(steps=60), tmp_path)
    print("\n".join(month.timeline))
    wrong = [f"{check.claim}: {check.found}" for check in found if not check.held]
    assert len(found) > 10
    assert not wrong
