"""The script of docs/digits.md runs as it is shown, on the digits that scikit-learn ships."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PICTURES = (
    "generated_textbook", "generated_convolutions", "interpolation", "blur", "blur_generated",
    "traversal",
)  # fmt: skip


@pytest.mark.slow
def test_script_draws_every_picture_and_table(tmp_path: Path) -> None:
    quick = ("--epochs", "1", "--seeds", "1", "--least-steps", "300")
    done = subprocess.run(
        [
            sys.executable, ROOT / "benchmarks/digits.py", "--data", tmp_path, *quick,
            "--out", tmp_path / "out", "--table", tmp_path / "table.md",
        ],
        check=False, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "scikit-learn, 1,438 training and 359 test digits" in table
    assert table == done.stdout
    for name in PICTURES:
        assert (tmp_path / f"out/{name}.png").stat().st_size > 10_000, name
    blind, learnt = (
        float(re.findall(rf"^\| {name} .* (\d\.\d+) \|$", table, flags=re.MULTILINE)[0])
        for name in ("random", "Bernoulli VAE")
    )
    assert abs(blind - 0.5) < 0.1
    assert learnt > blind + 0.15
    untrained = 64 * 0.6931  # a coin a pixel
    bound = float(re.findall(r"^\| 64-400-20 \| (\d+\.\d) ", table, flags=re.MULTILINE)[0])
    assert 20 < bound < 0.7 * untrained


def test_page_shows_pictures_that_exist_and_the_command() -> None:
    page = (ROOT / "docs/digits.md").read_text(encoding="utf-8")
    assert "python benchmarks/digits.py --out" in page
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / "docs" / target).exists(), target
