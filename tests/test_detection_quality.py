"""The benchmark of detection quality: its splits, its metric, its records and its tables."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from quality import run
from suites import SUITES, adbench, ai4i, cmapss, nab, skab, suite_of, tep, tsb_ad
from suites.adbench import PROTOCOLS, Caps, Protocol, split
from suites.case import Case, Floats, Rows, Suite, areas, no_order, one_series
from suites.detectors import DETECTORS, WINDOWED, Fitted, detectors_of, score_case
from suites.records import Record, append, forget, read_records
from suites.tables import page

from vae_anomaly.scoring.baselines import BASELINES

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VAE_ANOMALY_DATA", ROOT / "../shared/data"))


def needs(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not under VAE_ANOMALY_DATA ({DATA})")
    return DATA / folder


# ----------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("n", [200, 3000, 60_000])
def test_tables_are_split_without_leakage_and_the_same_way_each_time(
    protocol: Protocol, n: int
) -> None:
    label = (np.arange(n) % 10 == 0).astype(np.int64)
    caps = Caps(train=1500, test=4000)
    drawn, train, test = split(label, 3, protocol, caps)
    for first, second in zip((drawn, train, test), split(label, 3, protocol, caps), strict=True):
        assert_array_equal(first, second)
    assert not np.intersect1d(train, test).size
    assert not label[drawn[train]].any()
    assert len(train) <= caps.train
    assert len(test) <= caps.test
    if len(drawn) <= 3000:
        assert label[drawn[test]].sum() == label[drawn].sum()
    if protocol == "clean":
        assert not np.intersect1d(drawn[train], drawn[test]).size
    assert len(drawn) == (1000 if (protocol, n) == ("dte", 200) else min(n, 50_000))


def test_dte_learns_from_the_first_half_of_the_normal_rows() -> None:
    label = np.zeros(2000, np.int64)
    label[::4] = 1
    _, train, test = split(label, 0, "dte", Caps())
    normal = np.flatnonzero(label == 0)
    assert_array_equal(train, normal[:750])
    assert_array_equal(np.sort(test), np.sort([*normal[750:], *np.flatnonzero(label)]))


def test_caps_leave_normal_rows_beside_many_anomalies() -> None:
    label = (np.arange(40_000) % 2).astype(np.int64)
    drawn, _, test = split(label, 0, "dte", Caps(train=100, test=6000))
    assert len(test) == 6000
    assert (label[drawn[test]] == 0).sum() == 1000


def numbered(n: int) -> Floats:
    """Rows that tell by their value which they are."""
    return np.arange(n, dtype=float)[:, None]


ENGINE = np.repeat(np.arange(1, 7), 100)
FAILED = np.arange(1000) % 20 == 0
WINDOWS = [(300, 350), (600, 650)]
CASES: dict[str, Case] = {
    "skab": skab.case(numbered(1000), np.arange(1000) // 100 == 6),
    "tep": tep.case(numbered(500), [500 + 960 * run + numbered(960) for run in range(22)]),
    "msl": tsb_ad.case(numbered(1000), np.arange(1000) // 100 == 6, 400),
    "cmapss": cmapss.case(numbered(600), ENGINE),
    "ai4i": ai4i.case(numbered(1000), FAILED, 0),
    "nab": nab.case(numbered(1000), WINDOWS),
}


def anomalous(name: str) -> set[int]:
    """Numbers of the anomalous rows of these made-up cases."""
    if name == "tep":
        return {500 + 960 * run + row for run in range(1, 22) for row in range(160, 960)}
    if name == "cmapss":
        return {100 * unit + row for unit in range(6) for row in range(70, 100)}
    if name == "ai4i":
        return set(np.flatnonzero(FAILED).tolist())
    if name == "nab":
        return {row for start, stop in WINDOWS for row in range(start, stop)}
    return set(range(600, 700))


@pytest.mark.parametrize("name", CASES)
def test_no_anomaly_is_learnt_from_and_what_is_learnt_is_not_judged(name: str) -> None:
    case = CASES[name]
    learnt = {int(row) for row in case.train.values[:, 0]}
    assert not learnt & anomalous(name)
    if name == "msl":
        return  # judges the whole series, as TSB-AD does
    number = case.test.values[:, 0]
    spoiled = np.isin(number, sorted(learnt))
    score = np.random.default_rng(0).normal(size=len(number))
    assert case.figures(score, 1) == case.figures(np.where(spoiled, 1e9, score), 1)


@pytest.mark.parametrize("name", CASES)
def test_a_score_that_knows_the_anomalies_is_perfect(name: str) -> None:
    case = CASES[name]
    score = np.isin(case.test.values[:, 0], sorted(anomalous(name))).astype(float)
    areas = {key: value for key, value in case.figures(score, 1).items() if "AUROC" in key}
    assert areas
    assert set(areas.values()) == {1.0}


def test_a_recording_whose_fault_is_there_from_the_start_has_one_figure_less() -> None:
    case = skab.case(numbered(1000), np.arange(1000) // 100 == 4)
    assert set(case.figures(np.arange(1000.0), 1)) == {"AUROC", "AP"}


def test_threshold_of_the_process_is_from_the_normal_run_alone() -> None:
    case = CASES["tep"]
    run = case.test.series
    score = np.random.default_rng(0).normal(size=len(run)) + 100.0 * (run > 0)
    found = case.figures(score, 1)
    assert found["detection rate, 18 faults"] == 1.0
    assert found["false alarm rate before the faults"] == 1.0  # no row of theirs moved it
    assert found["detection rate, threshold from all normal rows"] < 0.1


def test_scores_of_windows_stand_at_their_middle_rows() -> None:
    assert_array_equal(tsb_ad.centred(np.arange(5.0), 1), [0, 1, 2, 3, 4])
    assert_array_equal(tsb_ad.centred(np.arange(5.0), 4), [1, 2, 3, 4, 4])
    assert_array_equal(tsb_ad.centred(np.arange(5.0), 5), [2, 3, 4, 4, 4])


# -------------------------------------------------------------------------------------- smoothing


def test_smoothing_starts_anew_in_each_series() -> None:
    def fit(train: Rows, seed: int, is_series: bool) -> Fitted:
        return Fitted(lambda rows: rows.values[:, 0])

    rng = np.random.default_rng(0)
    train = one_series(rng.normal(size=(50, 1)))
    both = Rows(rng.normal(size=(30, 1)), np.repeat([4, 2], [10, 20]))
    whole = score_case(fit, train, both, 0, is_series=True).score
    for part in (slice(0, 10), slice(10, 30)):
        alone = score_case(fit, train, one_series(both.values[part]), 0, is_series=True).score
        assert_allclose(whole[part], alone, rtol=1e-12)
    fastest = (both.values[:, 0] - train.values[40:].mean()) / train.values[40:].std()
    assert (whole >= fastest - 1e-12).all()
    assert (whole > fastest).any()


def test_smoothing_takes_the_level_of_rows_that_were_not_learnt() -> None:
    """A method that is blind to what it learnt, as nearest neighbours are, is not taken in."""
    learnt: list[int] = []

    def fit(train: Rows, seed: int, is_series: bool) -> Fitted:
        learnt.append(len(train.values))
        known = set(train.values[:, 0].tolist())
        return Fitted(lambda rows: np.array([5.0 * (v not in known) for v in rows.values[:, 0]]))

    train, test = one_series(numbered(100)), one_series(numbered(200))
    scored = score_case(fit, train, test, 0, is_series=True)
    assert learnt == [100, 80]
    assert scored.raw is not None
    assert_allclose(scored.score[150:], 0.0, atol=1e-6)  # 5 is what a new row scores
    assert score_case(fit, train, test, 0, is_series=False).raw is None


@pytest.mark.parametrize("name", [*BASELINES, *WINDOWED])
def test_a_baseline_does_not_look_from_one_series_into_the_next(name: str) -> None:
    rng = np.random.default_rng(0)
    train = Rows(rng.normal(size=(120, 3)), np.repeat([1, 2], 60))
    test = Rows(rng.normal(size=(30, 3)), np.repeat([5, 3], [10, 20]))
    fitted = DETECTORS[name](train, 0, True)
    alone = [
        fitted.score(Rows(test.values[test.series == one], np.full(n, one)))
        for one, n in ((5, 10), (3, 20))
    ]
    assert_array_equal(fitted.score(test), np.concatenate(alone))


def test_tables_have_the_methods_that_need_no_order() -> None:
    assert set(detectors_of(is_series=True)) == set(DETECTORS) - {"1-NN"}
    assert set(DETECTORS) - set(detectors_of(is_series=False)) == {"cva", *WINDOWED}


# ---------------------------------------------------------------------------- records and tables


def made_up(read: list[str]) -> Suite:
    """Two small tables, which say when they are read."""

    def read_case(folder: Path, name: str, seed: int) -> Case:
        read.append(name)
        rows = np.random.default_rng(seed).normal(size=(80, 3))
        rows[60:] += 4.0
        truth = np.arange(80) >= 60
        return Case(
            no_order(rows[:40]), no_order(rows[40:]), lambda score, window: areas(truth[40:], score)
        )

    return replace(
        suite_of("adbench"), key="made_up", names=lambda folder: ["one", "two"], read=read_case
    )


QUICK = ["mahalanobis", "knn", "random"]


def test_a_second_call_computes_only_what_is_missing(tmp_path: Path) -> None:
    file, read, done = tmp_path / "records/made_up.jsonl", list[str](), list[Record]()

    def call(seeds: int, detectors: list[str]) -> None:
        read.clear()
        done.clear()
        run(
            made_up(read), tmp_path, file, seeds=seeds, detectors=detectors,
            done=lambda record, n: done.append(record),
        )  # fmt: skip

    call(1, QUICK[:2])
    assert len(done) == 4
    first = file.read_text()
    call(1, QUICK[:2])
    assert (done, read) == ([], [])
    assert file.read_text() == first
    call(2, QUICK)
    assert len(done) == 12 - 4
    assert file.read_text().startswith(first)
    assert len(read_records(file)) == 12

    forget(file, ["knn"])
    call(2, QUICK)
    assert [record.detector for record in done] == ["knn"] * 4


def test_a_killed_run_goes_on_where_it_stopped_with_the_same_figures(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"

    def call(file: Path) -> None:
        run(
            made_up([]), tmp_path, file, seeds=1, detectors=QUICK,
            done=lambda record, n: None,
        )  # fmt: skip

    call(whole)
    lines = whole.read_text().splitlines(keepends=True)
    killed.write_text("".join(lines[:3]) + lines[3][:20])
    call(killed)
    figures = [
        {key: record.figures for key, record in read_records(file).items()}
        for file in (whole, killed)
    ]
    assert figures[0] == figures[1]


def test_a_detector_that_refuses_the_rows_is_said_and_counts_as_chance(tmp_path: Path) -> None:
    def constant(folder: Path, name: str, seed: int) -> Case:
        rows, truth = np.full((10, 2), np.nan), np.arange(10) > 5
        return Case(no_order(rows), no_order(rows), lambda score, window: areas(truth, score))

    file = tmp_path / "records.jsonl"
    suite = replace(made_up([]), read=constant)
    run(
        suite, tmp_path, file, seeds=1, detectors=["mahalanobis"],
        done=lambda record, n: None,
    )  # fmt: skip
    record = next(iter(read_records(file).values()))
    assert record.figures["AUROC"] == 0.5
    lines = page(suite, list(read_records(file).values()), {})
    assert any("mahalanobis could not learn one, two" in line for line in lines)


def records_of(detectors: list[str], seeds: int) -> list[Record]:
    return [
        Record(case, seed, name, {"AUROC": 0.5 + seed / 10, "AP": 0.2}, 10, 20, 1.0, code="a")
        for name in detectors
        for seed in range(seeds)
        for case in ("one", "two")
    ]


def test_tables_hold_every_detector_its_seeds_and_what_is_published() -> None:
    suite = suite_of("adbench")
    lines = page(suite, records_of(list(DETECTORS), 3), {"their VAE": 0.7})
    assert {"default", "plain VAE", "random"} < set(DETECTORS)
    for name in DETECTORS:
        assert f"| {name} | 60.00 ± 10.00 | 20.00 ± 0.00 | 3 | 1.00 |" in lines
    assert "| *published:* their VAE | 70.00 | – | – | – |" in lines
    assert "seeds 0, 1, 2" in lines[0]
    assert "20 rows to learn from and 40 scored ones, of seed 0" in lines[0]
    assert any(line.startswith("| one (10 / 20) | 60.0 |") for line in lines)


def test_a_mean_over_some_of_the_data_sets_is_not_shown() -> None:
    whole = records_of(["default", "knn"], 2)
    lines = page(suite_of("adbench"), whole[:-1], {})
    assert "| knn | 50.00 | 20.00 | 1 | 1.00 |" in lines
    lines = page(suite_of("adbench"), whole[:4] + whole[4:5], {})
    assert "| knn | – | – | incomplete | 1.00 |" in lines


def test_results_of_two_versions_of_the_package_are_told_apart() -> None:
    first, *rest = records_of(["default"], 2)
    lines = page(suite_of("adbench"), [replace(first, code="b"), *rest], {})
    assert any("more than one version" in line for line in lines)
    assert not any("more than one version" in line for line in page(suite_of("adbench"), rest, {}))


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    for record in records_of(["knn"], 1):
        append(file, record)
    whole = file.read_text()
    file.write_text(whole + whole[:30])
    assert len(read_records(file)) == 2
    assert file.read_text() == whole


def test_every_suite_names_its_first_figure_and_is_documented() -> None:
    page = (ROOT / "benchmarks/quality.py").read_text(encoding="utf-8")
    for name, suite in SUITES.items():
        assert name in page
        assert suite.columns
        assert suite.says.endswith(".")


def test_examples_of_the_docstrings_hold() -> None:
    assert doctest.testmod(adbench).failed == 0


@pytest.mark.slow
def test_command_writes_a_table_of_one_small_set(tmp_path: Path) -> None:
    data = tmp_path / "data/adbench"
    data.mkdir(parents=True)
    (data / "45_wine.npz").symlink_to(needs("adbench") / "45_wine.npz")
    command = [
        sys.executable, ROOT / "benchmarks/quality.py", "adbench", "--quick", "--seeds", "1",
        "--data", tmp_path / "data", "--records", tmp_path / "records", "--out", tmp_path,
    ]  # fmt: skip
    tables = []
    for _ in range(2):
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        tables.append((tmp_path / "quality_adbench_dte_quick.md").read_text(encoding="utf-8"))
        assert tables[-1] == done.stdout
    assert tables[0] == tables[1]
    for name in detectors_of(is_series=False):
        assert f"\n| {name} | " in tables[0]
    records = read_records(tmp_path / "records/adbench_dte_quick.jsonl")
    areas = {key.detector: record.figures["AUROC"] for key, record in records.items()}
    assert areas["knn"] > 0.9
    assert abs(areas["random"] - 0.5) < 0.1
