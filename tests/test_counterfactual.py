"""The smallest change that makes a row normal."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from linear_plant import NOISE, D, faulty_rows, fitted, normal_rows, parts, series, with_gaps
from numpy.testing import assert_allclose, assert_array_equal
from sealed import rows, seal

from vae_anomaly import VAEDetector
from vae_anomaly.errors import InputError, PackageError
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.baseline_fitting import fit_baseline, fit_changes
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.scoring.counterfactual import Counterfactual, counterfactual
from vae_anomaly.scoring.scorer import Scorer

#: Standard deviation of each sensor's noise, in its unit.
UNIT = NOISE * 10.0 ** (np.arange(D) - 2)


@lru_cache
def scorer_of(name: str) -> Scorer:
    if name in VARIANTS:
        return fitted(name).scorer
    train, stop = parts()
    return fit_baseline(train, stop, n_context=0, baseline=name, seed=0).scorer


def limit_of(scorer: Scorer, share: float = 0.99) -> float:
    normal = series(normal_rows(600, 11), runs=(1,) * 600)
    return float(scorer(normal.rows, normal.run)[0].quantile(share))


def explained(scorer: Scorer, row: np.ndarray, threshold: float) -> Counterfactual:
    return counterfactual(scorer, torch.from_numpy(np.atleast_2d(row)), threshold=threshold)


@pytest.mark.parametrize("name", [*VARIANTS, *BASELINES])
def test_changed_row_is_normal_to_the_scorer_that_serves(name: str) -> None:
    scorer = scorer_of(name)
    threshold = limit_of(scorer, 0.5 if name == "isolation_forest" else 0.99)
    row = normal_rows(1, 7)[0]
    row[3] += 30 * UNIT[3]
    row[4] = np.nan
    found = explained(scorer, row, threshold)
    after, _ = scorer(torch.from_numpy(found.values), torch.zeros(1, dtype=torch.int64))
    assert found.before > threshold
    assert found.reached
    assert float(after[0]) == found.after <= threshold
    is_same = [j for j in range(D) if j not in found.changed]
    assert_array_equal(found.values[0, is_same], row[is_same])  # NaN stays NaN
    assert len(found.changed) <= 3


def test_of_a_gaussian_one_sensor_moves_to_the_edge_of_what_is_normal() -> None:
    """Oracle: along one sensor the Mahalanobis distance is a parabola, solved by hand."""
    scorer = scorer_of("mahalanobis")
    threshold = limit_of(scorer)
    row = normal_rows(1, 3)[0]
    row[2] += 40 * UNIT[2]
    places = np.array([-1.0, 0.0, 1.0]) * UNIT[2]
    tried = np.repeat(row[None], 3, axis=0)
    tried[:, 2] += places
    at, _ = scorer(torch.from_numpy(tried), torch.zeros(3, dtype=torch.int64))
    edges = np.roots(np.polyfit(places, at.numpy() - threshold, 2))
    nearest = row[2] + edges[np.argmin(np.abs(edges))]
    found = explained(scorer, row, threshold)
    assert found.changed == (2,)
    assert abs(found.values[0, 2] - row[2]) >= abs(nearest - row[2]) * (1 - 1e-4)
    # a change is halved six times: 1/64 of it at most is too much
    assert_allclose(found.values[0, 2], nearest, atol=abs(nearest - row[2]) / 32)


def test_planted_sensor_is_named_as_often_as_by_contributions() -> None:
    scorer = scorer_of("gaussian")
    threshold = limit_of(scorer)
    faulty = faulty_rows(120, 7)
    score, contributions = scorer(*series(faulty.rows, runs=(1,) * 120)[:2])
    at = np.flatnonzero(faulty.is_faulty & (score.numpy() > threshold))[:20]
    planted = faulty.sensor[at]
    found = [explained(scorer, faulty.rows[row], threshold) for row in at]
    named = np.array([one.changed[0] for one in found]) == planted
    contributed = contributions[at].argmax(dim=1).numpy() == planted
    print(
        f"\nnamed first: counterfactual {named.mean():.2f}, contributions {contributed.mean():.2f}"
    )
    assert len(at) == 20
    assert named.mean() >= contributed.mean()
    assert np.mean([len(one.changed) for one in found]) < 1.5


def test_same_row_has_the_same_explanation_whatever_was_drawn_before() -> None:
    scorer, row = scorer_of("gaussian"), faulty_rows(60, 7).rows[12]
    threshold = limit_of(scorer)
    found = explained(scorer, row, threshold)
    torch.rand(3)
    again = explained(scorer, row, threshold)
    assert_array_equal(again.values, found.values)
    assert (again.changed, again.after) == (found.changed, found.after)
    assert found.changed


def test_normal_row_stays_as_it_is() -> None:
    scorer = scorer_of("gaussian")
    row = normal_rows(1, 3)[0]
    found = explained(scorer, row, threshold=1e9)
    assert (found.changed, found.reached, found.before) == ((), True, found.after)
    assert_array_equal(found.values[0], row)


def test_threshold_that_no_row_reaches_is_said_to_be_out_of_reach() -> None:
    found = explained(scorer_of("gaussian"), normal_rows(1, 3)[0] + 5 * UNIT, threshold=-1e9)
    assert not found.reached
    assert found.after < found.before


def test_constant_that_has_changed_is_set_back() -> None:
    values = np.full((98, 2), 7.5)
    scorer = fit_changes(torch.from_numpy(values), n_context=0).scorer
    found = explained(scorer, np.array([7.5, 8.0]), threshold=1.0)
    assert found.changed == (1,)
    assert_array_equal(found.values, [[7.5, 7.5]])
    assert found.reached


def test_context_and_rows_further_back_than_the_score_looks_are_left_alone() -> None:
    scorer = fitted(window=3, n_context=1).scorer
    given = normal_rows(9, 3, n_context=1)
    given[-2:, 4] += 40 * UNIT[4]
    found = counterfactual(scorer, torch.from_numpy(given), threshold=10.0 * 3 * D)
    assert found.values.shape == (3, D)
    assert found.changed[0] == 4
    same = [0, 1, 2, 3, 5]
    assert_array_equal(found.values[:, same], given[-3:, same])


@pytest.mark.slow
def test_lasting_fault_is_undone_in_all_the_rows_that_the_score_remembers() -> None:
    scorer = fitted(window=3, smoothing="auto").scorer
    given = with_gaps(normal_rows(400, 3), share=0.02)
    given[-60:, 4] += 4 * UNIT[4]
    run = torch.arange(400)
    threshold = float(scorer(torch.from_numpy(normal_rows(2000, 4)), torch.arange(2000))[0].max())
    before = float(scorer(torch.from_numpy(given), run)[0][-1])
    found = counterfactual(scorer, torch.from_numpy(given), threshold=threshold)
    assert before == found.before > threshold
    assert found.reached
    assert found.changed == (4,)
    moved = found.values[:, 4] - given[-len(found.values) :, 4]
    assert np.nanmean(moved[-60:]) < -UNIT[4] / 2
    assert abs(np.nanmean(moved[:-60])) < UNIT[4] / 10


def test_no_row_is_refused() -> None:
    with pytest.raises(InputError, match="no row is given"):
        counterfactual(scorer_of("gaussian"), torch.zeros(0, D).double(), threshold=1.0)


# ------------------------------------------------------------------------------------ public faces


def test_detector_explains_the_last_row() -> None:
    rng = np.random.default_rng(0)
    load = rng.normal(size=(600, 1))
    X = load @ [[1.0, 2.0, -1.0]] + 0.1 * rng.normal(size=(600, 3))
    detector = VAEDetector("linear", random_state=0).fit(X)
    found = detector.explain([[1.0, -2.0, -1.0]])
    assert found.reached
    assert found.changed == (1,)
    assert found.before == -detector.score_samples([[1.0, -2.0, -1.0]])[0]
    assert detector.predict(found.values)[0] == 1
    assert detector.explain([[1.0, 2.0, -1.0]]).changed == ()


def test_package_explains_the_last_row_by_its_own_threshold(tmp_path: Path) -> None:
    package = seal(tmp_path / "a")
    table = rows(11).filter(pa.array([row % 2 == 1 for row in range(11)]))  # of pump b alone
    at = table.column_names.index("PT-101")
    off = pa.array([*table["PT-101"].to_pylist()[:-1], 90.0])
    table = table.set_column(at, "PT-101", off)
    verdict = package.score(table).to_pylist()[-1]
    found = package.explain(table)
    assert verdict["status"] == "anomaly"
    assert found.before == verdict["score"]
    assert found.after <= verdict["threshold"]
    assert found.reached
    assert found.changed[0] == 0
    assert package.explain(table, threshold=1e9).changed == ()
    with pytest.raises(InputError, match="2 assets"):
        package.explain(rows(12))
    with pytest.raises(InputError, match="no row"):
        package.explain(table.slice(0, 0))
    uncalibrated = replace(package, units={"*": replace(package.units["*"], calibration=None)})
    with pytest.raises(PackageError, match="no threshold"):
        uncalibrated.explain(table)
