"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from vae_anomaly import VAEDetector
from vae_anomaly.config import read_plant

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_no_placeholder_is_left() -> None:
    assert "{{" not in README


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", blocks("sh")[0], flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_plant_file_of_five_lines_is_valid(tmp_path: Path) -> None:
    text = re.search(r"plant\.yml <<'END'\n(.*?)END\n", README, flags=re.DOTALL)
    assert text is not None
    (tmp_path / "plant.yml").write_text(text[1])
    plant = read_plant(tmp_path / "plant.yml")
    assert plant.contract.sensor_names == ("pressure", "flow", "temperature")


@pytest.mark.slow
def test_python_example_does_what_its_comments_say() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    detector, rows = names["detector"], names["X"]
    assert isinstance(detector, VAEDetector)
    assert isinstance(rows, np.ndarray)
    assert set(detector.predict(rows)) == {1, -1}
    assert detector.contributions(rows[:5]).shape == (5, 3)
    assert np.allclose(
        detector.contributions(rows[:5]).sum(axis=1), -detector.score_samples(rows[:5])
    )


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("name", ["databases", "ingest", "memory", "simulated"])
def test_figures_are_those_of_the_results(name: str) -> None:
    """Every figure of a paragraph that ends in a link to results stands in them."""
    results = (ROOT / f"benchmarks/results/{name}.md").read_text()
    known = set(re.findall(r"\d+(?:[.,]\d+)*", results))
    known |= {f"{100 * float(n):.0f}" for n in known if re.fullmatch(r"0\.\d+", n)}
    end = README.index(f"(benchmarks/results/{name}.md)")
    start = max(README.rfind("\n\n", 0, end), README.rfind("- **", 0, end))
    figures = set(re.findall(r"\d+(?:[.,]\d+)+|\d+(?= %)", README[start:end]))
    assert figures
    assert figures <= known, figures - known
