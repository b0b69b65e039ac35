"""What the documentation shows can stand in a plant file."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from vae_anomaly.cli import parser
from vae_anomaly.cli_uses import USES
from vae_anomaly.config import PlantConfig
from vae_anomaly.data.refusals import REASONS
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.streaming import STATUSES

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
PAGE = PAGES["plant-data.md"]
BLOCKS = re.findall(r"```yaml\n(.*?)```", "".join(PAGES.values()), flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split(":")[0])
def test_what_is_shown_is_valid(block: str) -> None:
    base = {
        "name": "plant",
        "source": {"path": "incoming"},
        "contract": {"time": "time", "sensors": ["flow"]},
    }
    assert PlantConfig.model_validate(base | yaml.safe_load(block)).name


@pytest.mark.parametrize("name", [*VARIANTS, *BASELINES])
def test_every_model_has_a_row_in_the_page_on_models(name: str) -> None:
    assert f"\n| `{name}` |" in PAGES["models.md"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGES[page]):
        assert (ROOT / "docs" / target).exists(), target


def test_commands_of_the_page_on_uses_are_understood() -> None:
    for line in re.findall(r"^vae-anomaly .*$", PAGES["uses.md"], flags=re.MULTILINE):
        options = parser().parse_args(shlex.split(line)[1:])
        assert options.name in USES


@pytest.mark.parametrize(
    ("page", "name", "starts", "least"),
    [
        ("uses.md", "augmentation", "\n\n", 6),
        ("models.md", "one_pass", "\n\n", 2),
        ("models.md", "scores", "\n\n", 8),
        ("models.md", "collapse", "Two networks made to collapse", 6),
    ],
)
def test_figures_of_a_page_are_those_of_the_results(
    page: str, name: str, starts: str, least: int
) -> None:
    results = (ROOT / f"benchmarks/results/{name}.md").read_text(encoding="utf-8")
    end = PAGES[page].index(f"(../benchmarks/results/{name}.md)")
    start = PAGES[page].rindex(starts, 0, end)
    figures = set(re.findall(r"\d+[.,]\d+", PAGES[page][start:end]))
    assert len(figures) >= least
    assert figures <= set(re.findall(r"\d+[.,]\d+", results)), figures


def test_reasons_and_statuses_are_those_of_the_code() -> None:
    for reason in ("bad_time", "nonexistent_local_time", "not_a_number"):
        assert f"`{reason}`" in PAGE
        assert reason in REASONS
    for status in ("off", "unseen_mode"):
        assert f"`{status}`" in PAGE
        assert status in STATUSES
