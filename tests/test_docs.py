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
from vae_anomaly.decisions.rules import RULES
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.streaming import STATUSES, VERDICT_SCHEMA

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


@pytest.mark.parametrize("name", ["auto", *RULES])
def test_every_rule_has_a_row_in_the_page_on_thresholds(name: str) -> None:
    assert f"\n| `{name}` |" in PAGES["thresholds.md"]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", PAGES[page]):
        assert (ROOT / "docs" / target).exists(), target
        if anchor:
            assert anchor in anchors(PAGES[target or page]), (target, anchor)


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


WORDS = re.findall(r"^- \*\*([^*]+)\*\*(.*?)(?=^- |^#|\Z)", PAGES["words.md"], flags=re.M | re.S)


@pytest.mark.parametrize("word", [word for words, _ in WORDS for word in words.split(", ")])
def test_a_word_is_told_in_short_and_leads_to_a_page(word: str) -> None:
    ((_, told),) = [entry for entry in WORDS if word in entry[0].split(", ")]
    text, target = re.fullmatch(r"(.*)\[[^\]]+\]\(([^)#]+)[^)]*\)\.\s*", told, flags=re.S).groups()  # type: ignore[union-attr]
    assert len(text.split()) < 75
    # the page that has more has the word, in one form or another
    assert word[:7].lower() in PAGES[target].lower(), (word, target)


def test_newcomers_find_the_words() -> None:
    assert 25 <= len(WORDS) <= 36
    intro = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[0]
    assert "(docs/words.md)" in intro
    for page in ("registry.md", "models.md", "thresholds.md", "alarms.md"):
        assert "(words.md)" in PAGES[page].split("\n## ")[0], page


def test_commands_of_the_page_on_uses_are_understood() -> None:
    for line in re.findall(r"^vae-anomaly .*$", PAGES["uses.md"], flags=re.MULTILINE):
        options = parser().parse_args(shlex.split(line)[1:])
        assert options.name in USES


def test_commands_of_the_page_on_feedback_are_understood() -> None:
    lines = re.findall(r"^ +(vae-anomaly .*)$", PAGES["feedback.md"], flags=re.MULTILINE)
    assert {parser().parse_args(shlex.split(line)[1:]).name for line in lines} == {
        "alarms",
        "label",
        "recalibrate",
    }


@pytest.mark.parametrize(
    ("page", "name", "starts", "least"),
    [
        ("uses.md", "augmentation", "\n\n", 6),
        ("models.md", "one_pass", "\n\n", 2),
        ("models.md", "speed", "\n\n", 5),
        ("models.md", "scores", "\n\n", 8),
        ("partial-labels.md", "partial_labels", "On 17 tables", 12),
        ("alarms.md", "alarms", "On the 21 faults", 1),
        ("models.md", "series", "Without its smoothing", 8),
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


#: How the table of what the default finds calls each suite of `quality.py`.
SUITES = {
    "ADBench": "adbench_dte", "the same": "adbench_clean", "AI4I": "ai4i", "SKAB": "skab",
    "Tennessee Eastman": "tep", "MSL": "msl", "SMD": "smd", "C-MAPSS": "cmapss", "NAB": "nab",
}  # fmt: skip


@pytest.mark.parametrize("data", SUITES)
def test_what_the_default_finds_is_what_was_measured(data: str) -> None:
    """Default, plain VAE, the best simple method and chance, each the first figure of its row."""
    (row,) = re.findall(rf"^\| {data}.*", PAGES["models.md"], flags=re.MULTILINE)
    default, plain, simple, chance = (cell.strip() for cell in row.strip("| ").split("|")[2:])
    results = ROOT / f"benchmarks/results/quality_{SUITES[data]}.md"
    found = re.findall(
        r"^\| ([^|*]+) \| (\d+\.\d+) ± [^|]*\|.*\| 3 \| [\d.]+ \|$",
        results.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    means = {name: float(mean) for name, mean in found}
    best = max(means[name] for name in means if name not in ("default", "plain VAE", "random"))
    decimals = len(default.partition(".")[2])
    for said, mean in (
        (default, means["default"]),
        (plain, means["plain VAE"]),
        (simple.split()[0], best),
        (chance, means["random"]),
    ):
        assert abs(float(said) - mean) <= 0.51 * 10**-decimals, (data, said, mean)


def test_reasons_and_statuses_are_those_of_the_code() -> None:
    for reason in ("bad_time", "nonexistent_local_time", "not_a_number"):
        assert f"`{reason}`" in PAGE
        assert reason in REASONS
    for status in ("off", "unseen_mode"):
        assert f"`{status}`" in PAGE
        assert status in STATUSES


def test_every_column_that_gives_reasons_is_in_the_page_on_why() -> None:
    names = [name for name in VERDICT_SCHEMA.names if name.startswith("top_")]
    for name in (*names, "constant_changed", "sensor_faults"):
        assert f"\n| `{name}` |" in PAGES["why.md"]


@pytest.mark.parametrize("name", ["stuck", "why"])
def test_tables_of_the_page_on_why_are_those_of_the_results(name: str) -> None:
    results = (ROOT / f"benchmarks/results/{name}.md").read_text(encoding="utf-8")
    assert results.split("\n\n")[1] in PAGES["why.md"]
