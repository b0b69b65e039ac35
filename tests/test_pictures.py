"""Pictures are PNG files of the stated size, of any input, with every peak, and disturb nobody."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from vae_anomaly.decisions.evaluation import auroc, rates_at, roc_points
from vae_anomaly.decisions.rates import UNKNOWN, Interval
from vae_anomaly.errors import InputError
from vae_anomaly.pictures import (
    baseline_bars,
    budget_curve,
    cell_states,
    image_grid,
    image_reconstructions,
    image_rows,
    interpolation_lines,
    latent_map,
    mode_rates,
    reconstruction_band,
    roc_picture,
    rows_per_hour,
    score_histogram,
    sensor_shares,
    timeline,
    training_curves,
    traversal_lines,
)

START = np.datetime64("2026-03-01T00:00")
MINUTE = np.timedelta64(60, "s")
VERMILION = np.array([0xD5, 0x5E, 0x00]) / 255

Draw = Callable[[Path], Path]


def size_of(path: Path) -> tuple[int, int]:
    """Width and height in the header of a PNG file."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def check_picture(path: Path) -> None:
    width, height = size_of(path)
    assert width == 1000
    assert 150 <= height <= 1320
    pixels = imread(path)[..., :3]
    assert pixels.std() > 0.02  # something is drawn
    assert pixels.mean() > 0.6  # on white
    # and nothing is cut off: the outermost pixels are white
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert edge.min() > 0.95


def vermilion_pixels(path: Path) -> int:
    return int((np.abs(imread(path)[..., :3] - VERMILION).max(axis=-1) < 0.05).sum())


def curve(scores: list[float], labels: list[int], threshold: float) -> Draw:
    points, at = roc_points(scores, labels), rates_at(threshold, scores, labels)
    return partial(
        roc_picture,
        false_alarm_rate=points.false_alarm_rate,
        detection_rate=points.detection_rate,
        area=auroc(scores, labels),
        chosen=(at.false_alarm_rate, at.detection_rate),
        n_normal=at.n_normal,
        n_anomalous=at.n_anomalous,
    )


def series(scores: np.ndarray, threshold: float, *, assets: int = 1, **more: object) -> Draw:
    n = len(scores)
    times = START + np.arange(n) // assets * MINUTE
    names = np.array([f"pump-{i:02d}" for i in range(assets)])[np.arange(n) % assets]
    return partial(timeline, times=times, scores=scores, assets=names, threshold=threshold, **more)


GENERATOR = np.random.default_rng(0)
NORMAL = GENERATOR.chisquare(8, 2000)
FAULTY = np.append(NORMAL, 20 * GENERATOR.gamma(2, 1, 200))
LABELS = np.repeat([0, 1], [2000, 200])
BROKEN = np.array([1.0, math.inf, -math.inf, math.nan, 5.0, 1e30])
CHECKS = np.arange(1.0, 41.0)
EVERYWHERE = Interval(0.5, 0.0, 1.0)
IMAGES = GENERATOR.random((10, 12, 14, 14))
POINTS = GENERATOR.normal(size=(600, 2))
MOMENTS = START + np.arange(600) * MINUTE
BENDS = np.tanh(np.linspace(-3, 3, 9)[None, :, None] * GENERATOR.normal(size=(20, 1, 8)))
WAY = np.linspace(0, 5, 9)[:, None, None] * GENERATOR.normal(size=(1, 1, 20)) + 50
WAVES = np.sin(np.arange(30)[:, None] / 5 + np.linspace(0, 2, 9)[:, None, None]) * np.arange(1, 4)
READ = np.where(GENERATOR.random((600, 8)) < 0.02, np.nan, GENERATOR.normal(size=(600, 8)))

PICTURES: dict[str, Draw] = {
    "budget": partial(
        budget_curve,
        alarms_per_week=[0.25, 0.5, 1, 2, 4],
        smallest_shift=[5, 4, 3.5, 3, 2],
        chosen=2,
        found=[3, 5, 8, 9, 9],
        n_faults=26,
        subject="plant",
    ),
    "budget, one and nothing known": partial(
        budget_curve, alarms_per_week=[1.0], smallest_shift=[math.nan], chosen=0
    ),
    "modes": partial(
        mode_rates,
        modes=[f"grade $_{i}$" for i in range(30)],
        n_rows=list(range(30, 0, -1)),
        rates={"one threshold": [EVERYWHERE] * 30, "levelled": [Interval(0.01, 0, 0.02)] * 30},
        asked=0.01,
        subject="plant",
    ),
    "modes, one": partial(
        mode_rates, modes=["run"], n_rows=[9], rates={"one": [Interval(0, 0, 0)]}, asked=0.01
    ),
    "roc": curve(FAULTY.tolist(), LABELS.tolist(), 20.0),
    "roc, one row a class": curve([1.0, 2.0], [0, 1], 1.5),
    "roc, all scores equal": curve([1.0] * 9, [0] * 8 + [1], 1.0),
    "roc, nothing chosen": partial(
        roc_picture,
        false_alarm_rate=[0, 1],
        detection_rate=[0, 1],
        area=UNKNOWN,
        n_normal=0,
        n_anomalous=0,
    ),
    "histogram": partial(score_histogram, scores=FAULTY, labels=LABELS, threshold=20.0),
    "histogram, one row": partial(score_histogram, scores=[2.0], labels=[0]),
    "histogram, unlabelled": partial(
        score_histogram, scores=NORMAL - 9, labels=np.full(2000, -1), threshold=3.0, unit="nats"
    ),
    "histogram, all equal": partial(
        score_histogram, scores=[0.0] * 9, labels=[0] * 9, threshold=0.0
    ),
    "histogram, infinite": partial(
        score_histogram, scores=BROKEN, labels=[0, 0, 0, 0, 1, 1], threshold=2.0
    ),
    "histogram, nothing finite": partial(
        score_histogram, scores=[math.inf], labels=[1], threshold=math.inf
    ),
    "timeline": series(FAULTY, 20.0, labels=LABELS, unit="nats", subject="plant"),
    "timeline, one row": series(np.ones(1), 2.0),
    "timeline, all equal": series(np.full(50, 3.0), 3.0, labels=np.ones(50, int)),
    "timeline, infinite": series(BROKEN, 2.0),
    "timeline, nothing scored": series(np.full(9, math.nan), 2.0),
    "timeline, 40 assets": series(NORMAL, 20.0, assets=40),
    "timeline, 3 assets": series(FAULTY, 20.0, assets=3, labels=LABELS),
    "training": partial(
        training_curves,
        steps=25 * CHECKS,
        bound=-900 * np.exp(-CHECKS),
        held_out_bound=-950 * np.exp(-CHECKS) - 0.5,
        learning_rate=np.sin(CHECKS / 13),
        best_step=1000,
        subject="plant",
    ),
    "rows per hour": partial(
        rows_per_hour,
        assets=["pump 1", "pump 2"],
        rate=[[5, 0, 4, 3] * 50, [0, 0, 9, 9] * 50],
        start=START,
        bin_hours=1,
        subject="plant",
    ),
    "rows per hour, one": partial(
        rows_per_hour, assets=["a"], rate=[[1]], start=START, bin_hours=1
    ),
    "rows per hour, 60 assets": partial(
        rows_per_hour,
        assets=[f"pump {'long ' * 20} {i}" for i in range(60)],
        rate=GENERATOR.poisson(1, (60, 300)),
        start=START,
        bin_hours=24,
    ),
    "cells": partial(
        cell_states,
        sensors=["flow", "power"],
        counts=[[50, 1, 2, 3, 4], [60, 0, 0, 0, 0]],
        states=("value", "empty", "text", "quality", "refused"),
    ),
    "cells, all good": partial(
        cell_states, sensors=["flow"], counts=[[9, 0]], states=("value", "empty")
    ),
    "cells, 60 sensors": partial(
        cell_states,
        sensors=[f"sensor {i}" for i in range(60)],
        counts=GENERATOR.poisson(9, (60, 2)),
        states=("value", "empty"),
    ),
    "training, one check": partial(
        training_curves,
        steps=[1],
        bound=[-3.0],
        held_out_bound=[math.nan],
        learning_rate=[0.1],
        best_step=1,
    ),
    "baselines": partial(
        baseline_bars,
        names=["gaussian", "knn", "random"],
        figures=[Interval(0.94, 0.92, 0.96), Interval(0.9, 0.88, 0.92), EVERYWHERE],
        highlighted="gaussian",
    ),
    "baselines, unknown": partial(
        baseline_bars, names=["gaussian"], figures=[UNKNOWN], highlighted="gaussian"
    ),
    "baselines, 30 with long names": partial(
        baseline_bars,
        names=[f"method {i} {'long ' * 20}" for i in range(30)],
        figures=[EVERYWHERE] * 30,
        highlighted="other",
    ),
    "sensors": partial(
        sensor_shares, sensors=["flow", "level"], contributions=GENERATOR.gamma(1, 1, (90, 2))
    ),
    "grid": partial(image_grid, images=IMAGES[0], title="12 images", columns=4, subject="digits"),
    "grid, one image": partial(image_grid, images=IMAGES[0, :1], title="one"),
    "grid, 900 images": partial(
        image_grid,
        images=0.8 + GENERATOR.random((900, 5, 3)) / 5,
        title="many",
        columns=8,
        note="means",
    ),
    "grid, colours": partial(image_grid, images=GENERATOR.random((6, 9, 9, 3)), title="colours"),
    "strip": partial(
        image_rows,
        images=IMAGES[:1],
        title="From one to another",
        column_names=[f"{i / 11:.2f}" for i in range(12)],
    ),
    "latent rows": partial(
        image_rows, images=IMAGES, title="Latents", row_names=[f"z{i}" for i in range(10)]
    ),
    "latent rows, 90": partial(
        image_rows,
        images=np.tile(IMAGES, (9, 1, 1, 1)),
        title="Latents",
        row_names=[f"a very long name of a latent, z{i}" for i in range(90)],
    ),
    "reconstructions": partial(
        image_reconstructions, inputs=IMAGES[0], expected=IMAGES[1], column_names=list("abcdefghij")
    ),
    "map by label": partial(
        latent_map,
        points=POINTS,
        color=GENERATOR.integers(-1, 3, 600),
        color_by="label",
        kind="PCA",
        subject="pumps",
    ),
    "map by asset": partial(
        latent_map,
        points=POINTS,
        color=[f"pump {'long ' * 9}{i % 20}" for i in range(600)],
        color_by="asset",
        kind="t-SNE",
        note="distances between far groups mean nothing",
    ),
    "map by time": partial(latent_map, points=POINTS, color=MOMENTS, color_by="time", kind="PCA"),
    "map, one row": partial(
        latent_map, points=POINTS[:1], color=MOMENTS[:1], color_by="time", kind="PCA"
    ),
    "traversal": partial(
        traversal_lines,
        values=np.tile(np.linspace(-3, 3, 9), (20, 1)),
        change=BENDS,
        sensors=[f"sensor {i}" for i in range(8)],
    ),
    "traversal, one latent that does nothing": partial(
        traversal_lines, values=[[0.0, 0.0]], change=np.zeros((1, 2, 1)), sensors=["flow"]
    ),
    "way of a row": partial(
        interpolation_lines,
        values=WAY,
        inputs=WAY[[0, -1]] + 1,
        sensors=[f"sensor ${i}" for i in range(20)],
        ends=("2026-03-01 10:00", "2026-03-02 10:00"),
        kind="spherical",
        subject="pump 1",
    ),
    "way of a window": partial(
        interpolation_lines, values=WAVES, inputs=WAVES[[0, -1]], sensors=["a", "b", "c"]
    ),
    "way of a row of one sensor": partial(
        interpolation_lines, values=WAY[:, :, :1], inputs=np.full((2, 1, 1), np.nan), sensors=["a"]
    ),
    "band": partial(
        reconstruction_band,
        times=np.where(np.arange(600) > 300, MOMENTS + 999 * MINUTE, MOMENTS),
        values=READ,
        expected=np.zeros((600, 8)),
        sigma=np.ones((600, 8)),
        sensors=[f"sensor {i}" for i in range(8)],
        subject="pumps",
    ),
    "band, one row": partial(
        reconstruction_band,
        times=MOMENTS[:1],
        values=[[np.nan]],
        expected=[[1.0]],
        sigma=[[0.0]],
        sensors=["flow"],
    ),
    "sensors, one row of 60": partial(
        sensor_shares,
        sensors=[f"sensor ${i}_{'x' * i}$" for i in range(60)],
        contributions=np.zeros((1, 60)),
        subject="a rather long name of a plant that goes on and on, and on",
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_a_png_of_its_size_that_shows_something(name: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    assert PICTURES[name](path) == path
    check_picture(path)


@pytest.mark.parametrize(
    ("name", "height"),
    [("roc", 540), ("histogram", 480), ("timeline", 470), ("timeline, 40 assets", 1320),
     ("training", 560), ("baselines", 302), ("sensors", 262)],
)  # fmt: skip
def test_size_is_the_one_stated(name: str, height: int, tmp_path: Path) -> None:
    assert size_of(PICTURES[name](tmp_path / "picture.png")) == (1000, height)


@pytest.mark.parametrize("name", ["roc", "timeline", "sensors"])
def test_same_input_gives_the_same_file(name: str, tmp_path: Path) -> None:
    first, again = (PICTURES[name](tmp_path / file).read_bytes() for file in ("a.png", "b.png"))
    assert first == again


def test_one_peak_among_a_million_rows_is_seen(tmp_path: Path) -> None:
    scores = np.random.default_rng(1).random(1_000_000)
    without = series(scores, 2.0)(tmp_path / "without.png")
    scores[123_456] = 3.0
    with_peak = series(scores, 2.0)(tmp_path / "with.png")
    assert vermilion_pixels(with_peak) > vermilion_pixels(without) > 0  # the legend has one too


def test_asset_with_the_most_alarms_is_shown_among_many(tmp_path: Path) -> None:
    assets = np.repeat([f"pump-{i:02d}" for i in range(40)], 50)
    times = np.tile(START + np.arange(50) * MINUTE, 40)
    scores = np.zeros(2000)
    quiet = timeline(tmp_path / "q.png", times, scores, assets=assets, threshold=1.0)
    scores[-1] = 2.0
    loud = timeline(tmp_path / "l.png", times, scores, assets=assets, threshold=1.0)
    assert vermilion_pixels(loud) > vermilion_pixels(quiet)


def test_order_of_the_rows_changes_no_timeline(tmp_path: Path) -> None:
    times, assets = START + np.arange(2200) * MINUTE, np.repeat(["a", "b"], 1100)
    order = np.random.default_rng(2).permutation(2200)
    plain, mixed = (
        timeline(
            tmp_path / f"{i}.png",
            times[rows],
            FAULTY[rows],
            assets=assets[rows],
            threshold={"a": 10.0, "b": 20.0},
            labels=LABELS[rows],
        ).read_bytes()
        for i, rows in enumerate((np.arange(2200), order))
    )
    assert plain == mixed


@pytest.mark.slow
def test_million_rows_of_forty_assets_are_drawn(tmp_path: Path) -> None:
    scores = np.random.default_rng(3).chisquare(8, 1_000_000)
    labels = (scores > 40).astype(int)
    check_picture(series(scores, 30.0, assets=40, labels=labels)(tmp_path / "timeline.png"))
    check_picture(score_histogram(tmp_path / "histogram.png", scores, labels, threshold=30.0))


def test_importing_and_drawing_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    code = (
        "import sys, matplotlib as mpl\n"
        "def settings(): return {k: mpl.rcParams[k] for k in mpl.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from vae_anomaly.pictures import score_histogram\n"
        f"score_histogram({str(tmp_path / 'picture.png')!r}, [1.0, 2.0], [0, 1], threshold=1.5)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (partial(score_histogram, scores=[], labels=[]), "no scores to draw"),
        (series(np.empty(0), 1.0), "no scores to draw"),
        (partial(baseline_bars, names=[], figures=[], highlighted=""), "no methods to draw"),
        (partial(budget_curve, alarms_per_week=[], smallest_shift=[], chosen=0), "no budgets"),
        (partial(mode_rates, modes=[], n_rows=[], rates={}, asked=0.01), "no modes to draw"),
        (
            partial(mode_rates, modes=["a"], n_rows=[1], rates={"x": []}, asked=0.01),
            "each with a rate a mode",
        ),
        (partial(sensor_shares, sensors=["a"], contributions=np.zeros((3, 2))), r"give \(n, 1\)"),
        (partial(sensor_shares, sensors=["a"], contributions=np.zeros((0, 1))), "draw nothing"),
        (series(np.ones(5), {"pump-01": 1.0}), "asset 'pump-00' has no threshold"),
        (series(np.ones(5), 1.0, labels=[0, 1]), "must be of one length"),
        (partial(image_grid, images=np.zeros((0, 3, 3)), title=""), "at least one"),
        (partial(image_rows, images=np.zeros((3, 3, 3)), title=""), r"give \(r, m, height, width"),
        (
            partial(image_reconstructions, inputs=IMAGES[0], expected=IMAGES[0, :3]),
            "must be of one shape",
        ),
        (partial(latent_map, points=POINTS, color=[1], color_by="label", kind="PCA"), r"\(n, 2\)"),
        (partial(traversal_lines, values=[[1.0]], change=BENDS, sensors=["a"]), r"values \(1, 1\)"),
        (partial(interpolation_lines, values=WAY, inputs=WAY, sensors=["a"]), "of 1 sensors"),
        (
            partial(
                reconstruction_band,
                times=MOMENTS[:2],
                values=[[1.0]],
                expected=[[1.0]],
                sigma=[[1.0]],
                sensors=["a"],
            ),
            r"must be of shape \(2, 1\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw: Draw, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        draw(tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()
