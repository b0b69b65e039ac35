"""Labelled anomalies lift what is like them, by a head that any member can be given at any time."""

from __future__ import annotations

import pickle
import time
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from crash import run_all, write_plant
from linear_plant import NOISE, QUICK, D, normal_rows, parts, series, with_gaps
from linear_plant import fitted as trained
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from vae_anomaly import ModelPackage, Training, VAEDetector
from vae_anomaly.config import read_plant
from vae_anomaly.data.windows import Matrix
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.models.standardize import Series, joined
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.package import Golden, Provenance, Unit
from vae_anomaly.scoring.baseline_fitting import fit_baseline
from vae_anomaly.scoring.baselines import BASELINES
from vae_anomaly.scoring.label_head import LEAKS, MOST, WEIGHT, LabelHead, one_sided
from vae_anomaly.scoring.labelled import (
    MOST_ROWS,
    NormalRows,
    anomalies_of,
    takes_labels,
    tell,
    told_in_fit,
)
from vae_anomaly.scoring.labelled import (
    normal_rows as kept_rows,
)
from vae_anomaly.scoring.logistic import logistic
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.scores.score import read
from vae_anomaly.scoring.smoothing import Smoothing
from vae_anomaly.scoring.specification import build_scorer, scorer_spec
from vae_anomaly.steps.train import latest_trained

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration rows support")

Mode = Literal["default", "strict"]

#: Members that take a head.
MEMBERS = [name for name, member in VARIANTS.items() if not member.learns_labels]

#: Enough labels to learn a direction, and the sensor that is off in all of them.
N_LABELS, OFF = 30, 2


def anomalies(n: int, seed: int, sensor: int = OFF) -> np.ndarray:
    """Rows of the linear plant with one sensor off by three times the noise."""
    rows = normal_rows(n, seed)
    rows[:, sensor] += 3 * NOISE * 10.0 ** (sensor - 2)
    return rows


def labelled(n: int = N_LABELS, seed: int = 20) -> Series:
    """Anomalies that bear a label, each the last row of a series of five."""
    rows, label = normal_rows(5 * n, seed), np.arange(5 * n) % 5 == 4
    rows[label] = anomalies(n, seed)
    return series(rows, runs=(5,) * n, label=label.astype(np.int64))


@lru_cache
def told(
    variant: str = "gaussian",
    mode: Mode = "default",
    *,
    n: int = N_LABELS,
    window: int = 1,
    smoothing: Smoothing = None,
    anomaly_score: str = "auto",
) -> tuple[Scorer, Scorer]:
    """A scorer without labels, and with a head."""
    plain = trained(variant, window=window, smoothing=smoothing, anomaly_score=anomaly_score).scorer
    return plain, tell(plain, kept(plain), anomalies_of(plain, labelled(n)), mode).scorer


def kept(scorer: Scorer) -> NormalRows:
    train, stop = parts()
    return kept_rows(scorer, train=train, stop=stop)


def scored(scorer: Scorer, rows: np.ndarray) -> np.ndarray:
    return scorer(*series(rows)[:2])[0].double().numpy()


def spread_of(scorer: Scorer) -> float:
    assert scorer.head is not None
    return float(scorer.head.score_spread)


# ------------------------------------------------------------------------------------- regression


@pytest.mark.parametrize(("n", "n_normal", "width"), [(1, 40, 5), (7, 60, 30), (90, 300, 8)])
def test_logistic_regression_is_scikit_learns(n: int, n_normal: int, width: int) -> None:
    rng = np.random.default_rng(n)
    ours, theirs = rng.normal(0.7, 1, (n, width)), rng.normal(0, 1, (n_normal, width))
    found = logistic(torch.from_numpy(ours), torch.from_numpy(theirs))
    rows = np.concatenate([ours, theirs])
    constant = np.full((len(rows), 1), (0.05 / 0.01) ** 0.5)  # its weight has the intercept's prior
    weight = np.concatenate([np.ones(n), np.full(n_normal, max(n, 3) / n_normal)])
    oracle = LogisticRegression(C=1 / 0.05, fit_intercept=False, tol=1e-10, max_iter=10_000)
    oracle.fit(np.hstack([rows, constant]), np.arange(len(rows)) < n, sample_weight=weight)
    assert_allclose(found, oracle.coef_[0, :-1], atol=2e-5)


def test_a_label_twice_moves_the_weights_and_normal_rows_twice_do_not() -> None:
    rng = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(n, 4, generator=rng).double() for n in (4, 50))
    once = logistic(ours + 1, theirs)
    assert_allclose(logistic(ours + 1, torch.cat([theirs, theirs])), once, atol=1e-6)
    assert (logistic(torch.cat([ours, ours]) + 1, theirs) - once).norm() > 0.02 * once.norm()


# ------------------------------------------------------------------------------------- the formula


@pytest.mark.parametrize("mode", LEAKS)
def test_a_bonus_is_bounded_and_rises(mode: Mode) -> None:
    above = torch.linspace(-200, 200, 4001, dtype=torch.float64)
    bonus = one_sided(above, LEAKS[mode])
    assert (bonus.diff() >= 0).all()
    assert bonus.max() == WEIGHT * MOST
    trusted = one_sided(above, LEAKS[mode], trust=1.0)
    assert (trusted.diff() >= 0).all()
    assert (trusted.abs() >= bonus.abs()).all()
    assert trusted.max() == 2 * WEIGHT * MOST
    assert bonus.min() == (-WEIGHT * MOST if mode == "default" else 0)
    assert one_sided(torch.zeros(1), LEAKS[mode]) == 0


@pytest.mark.parametrize("mode", LEAKS)
def test_the_score_is_what_the_documentation_says(mode: Mode) -> None:
    """Written again in NumPy, from the tensors of the head and what the model makes of rows."""
    plain, scorer = told(mode=mode)
    rows = np.concatenate([normal_rows(200, 7), anomalies(100, 8), anomalies(20, 9) * 1.5])
    batch = scorer.standardizer(torch.from_numpy(rows))
    with torch.no_grad():
        reading, (score, parts_) = read(scorer.module, batch), plain.unlabelled(batch)
    tensors = {k.removeprefix("head."): v.numpy() for k, v in scorer.state_dict().items()}
    x, z = batch.x.double().numpy(), reading.z.double().numpy()
    r = (x.astype(np.float32) - reading.p.mean.numpy()).astype(float) / tensors["residual_scale"]
    r = r.clip(-15, 15)
    u = (score.double().numpy() - tensors["score_mean"]) / tensors["score_spread"]
    u = np.sign(u) * np.where(abs(u) > 3, 3 + np.log1p((abs(u) - 3).clip(0)), abs(u))
    f = np.hstack(
        [
            np.sign(r) * np.log1p(abs(r)),
            np.sign(x) * np.log1p(abs(x)),
            np.log1p(abs(r)),
            np.log1p(abs(x)),
            z,
            z**2,
            u.clip(-5, 15)[:, None],
        ]
    )
    f = ((f - tensors["center"]) / tensors["scale"]).clip(-12, 12) / np.sqrt(f.shape[1])
    place = np.hstack([f[:, : 2 * D], f[:, 4 * D : 4 * D + z.shape[1]]])
    apart, near = (
        (place - tensors[kind][cdist(place, tensors[kind]).argmin(axis=1)]) ** 2
        for kind in ("normal", "anomalies")
    )
    total, least = (part.sum(axis=1) + tensors["floor"] for part in (apart, near))
    nearer = tensors["near_weight"] * np.log(total / least) / 2
    odds = f @ tensors["weight"] + nearer
    assert 0.1 < nearer.std() / odds.std() < 0.9
    q = (odds - tensors["odds_mean"]) / tensors["odds_spread"]
    trust = float(tensors["trust"])
    assert (trust > 0.1) == (mode == "default")
    v, c, weight = q - tensors["level"], LEAKS[mode] + trust / 4, 2 * (1 + trust)
    bonus = np.minimum(np.maximum(v, 0), 10)
    if c:
        bonus = bonus + c * np.maximum(np.minimum(v, 0), -10 / c)
    expected = u + tensors["score_mean"] / tensors["score_spread"] + weight * bonus
    assert (u > 3).any()
    assert_allclose(scored(scorer, rows), expected, rtol=1e-4, atol=1e-4)
    own = (f * tensors["weight"])[:, : 4 * D].reshape(-1, 4, D).sum(axis=1)
    of_places = (apart - near) * (nearer / (total - least))[:, None]
    own += of_places[:, : 2 * D].reshape(-1, 2, D).sum(axis=1)
    own = np.maximum(own * np.where(bonus < 0, -1, 1)[:, None], 0)
    own[own.sum(axis=1) == 0] = 1  # none of the bonus's sign: evenly
    share, size = own / own.sum(axis=1, keepdims=True), parts_.double().numpy()
    cut = u + (tensors["score_mean"] - score.double().numpy()) / tensors["score_spread"]
    cut = cut[:, None] * abs(size) / abs(size).sum(axis=1, keepdims=True)
    contributions = size / tensors["score_spread"] + cut + weight * bonus[:, None] * share
    assert (bonus < 0).any() == (mode == "default")
    assert_allclose(scorer(*series(rows)[:2])[1], contributions, rtol=1e-3, atol=1e-3)


def test_strict_never_lowers_a_score_and_default_lowers_those_unlike_the_labels() -> None:
    rows = np.concatenate([normal_rows(1000, 7), anomalies(200, 8, sensor=5)])
    (plain, strict), (_, default) = told(mode="strict"), told(mode="default")
    assert strict.head is not None
    without = strict.head.unlabelled(torch.from_numpy(scored(plain, rows)).float()).numpy()
    lifted = scored(strict, rows) - without
    assert lifted.min() >= -1e-5
    assert lifted.max() <= WEIGHT * MOST + 1e-4
    assert 0.1 < np.mean(lifted[:1000] > 1e-4) < 0.3  # a fifth of the normal rows
    lowered = scored(default, rows) - without
    assert default.head is not None
    more = 1 + float(default.head.trust)
    assert more > 1.1
    assert_allclose(lowered[lifted > 1e-4], more * lifted[lifted > 1e-4], rtol=1e-3, atol=1e-4)
    assert (lowered[lifted < 1e-6] <= 1e-6).all()
    assert lowered.min() < -0.1


def test_labels_on_normal_rows_are_not_trusted_and_more_right_ones_are_trusted_more() -> None:
    plain = trained().scorer

    def trust(rows: np.ndarray) -> float:
        some = Series(*series(rows)[:2], torch.ones(len(rows), dtype=torch.int64))
        head = tell(plain, kept(plain), anomalies_of(plain, some), "default").scorer.head
        assert head is not None
        return float(head.trust)

    few, many, wrong = map(trust, (anomalies(5, 3), anomalies(60, 3), normal_rows(60, 3)))
    assert trust(anomalies(2, 3)) == 0  # nothing to check them by
    assert wrong < 0.15
    assert 0.02 < few < 5 / 35
    assert 0.4 < many < 60 / 90


def test_labels_find_what_is_like_them() -> None:
    rows, truth = np.concatenate([normal_rows(1000, 7), anomalies(300, 8)]), np.arange(1300) >= 1000
    for mode in LEAKS:
        plain, scorer = told(mode=mode)
        before, after = (roc_auc_score(truth, scored(s, rows)) for s in (plain, scorer))
        assert after > before + 0.02, mode


def test_the_sensor_that_the_labels_are_about_is_named() -> None:
    _, scorer = told()
    contributions = scorer(*series(anomalies(300, 8))[:2])[1]
    named = torch.bincount(contributions.argmax(dim=1), minlength=D)
    assert named.argmax() == OFF
    plain = told()[0](*series(anomalies(300, 8))[:2])[1]
    assert named[OFF] > (plain.argmax(dim=1) == OFF).sum()


def cluster(n: int, seed: int) -> np.ndarray:
    """Rows that hardly differ from one another, in the middle of the normal ones."""
    noise = np.random.default_rng(seed).normal(size=(n, D))
    return normal_rows(2000, 77).mean(axis=0) + 0.1 * NOISE * 10.0 ** (np.arange(D) - 2) * noise


def test_labels_that_lie_together_among_normal_rows_are_found() -> None:
    plain, fresh = trained().scorer, cluster(300, 8)
    some = Series(*series(cluster(20, 3))[:2], torch.ones(20, dtype=torch.int64))
    rows, truth = np.concatenate([normal_rows(1000, 7), fresh]), np.arange(1300) >= 1000
    assert roc_auc_score(truth, scored(plain, rows)) < 0.5
    for mode in LEAKS:
        scorer = tell(plain, kept(plain), anomalies_of(plain, some), mode).scorer
        assert roc_auc_score(truth, scored(scorer, rows)) > 0.97, mode


def test_heavy_tails_keep_their_order_and_count_by_their_logarithm() -> None:
    head = LabelHead(1, 1, "default", n_normal=1, n_anomalies=1)
    head.score_mean.fill_(5.0)
    head.score_spread.fill_(2.0)
    found = head.unlabelled(torch.tensor([5.0, 11.0, 13.0, 2e6, -1e5])) - 2.5
    assert_allclose(found[:2], [0, 3])
    assert_allclose(found[2], 3 + np.log(2), rtol=1e-6)
    assert 3 < found[2] < found[3] < 18
    assert -18 < found[4] < -3


# ----------------------------------------------------------------------- promises of every score


@pytest.mark.slow
@pytest.mark.parametrize("variant", MEMBERS)
def test_every_member_keeps_its_promises_with_a_head(variant: str) -> None:
    keeps_promises(variant)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"window": 3},
        {"smoothing": 0.4},
        {"window": 3, "smoothing": "auto"},
        {"anomaly_score": "fused"},
        {"anomaly_score": "importance"},
    ],
    ids=str,
)
@pytest.mark.slow
def test_every_way_to_judge_keeps_its_promises_with_a_head(settings: dict[str, object]) -> None:
    keeps_promises("gaussian", **settings)


def test_a_table_keeps_its_promises_with_a_head() -> None:
    keeps_promises("gaussian")


def keeps_promises(variant: str, **settings: object) -> None:
    """Contributions sum to the score, gaps add none, bits are the same in splits and packages."""
    plain, scorer = told(variant, **settings)  # type: ignore[arg-type]
    assert plain.head is None
    rows, run, _ = series(with_gaps(np.concatenate([normal_rows(1300, 7), anomalies(150, 8)]), 0.1))
    rows[40] = torch.nan
    score, contributions = scorer(rows, run)
    assert not torch.equal(score, plain(rows, run)[0])
    assert score.isfinite().all()
    assert_allclose(contributions.sum(dim=1), score, rtol=1e-4, atol=2e-4)
    if scorer.left_context == 0:
        assert (contributions[rows.isnan()] == 0).all()
        assert score[40] == 0
    for first in (1, 700, 1100):
        start = max(0, first - scorer.left_context) if first > 1 else 0
        again, again_parts = scorer(rows[start:], run[start:] - start)
        assert torch.equal(again[first - start :], score[first:])
        assert torch.equal(again_parts[first - start :], contributions[first:])
    copy = build_scorer(scorer_spec(scorer))
    copy.load_state_dict(scorer.state_dict())
    assert torch.equal(copy(rows, run)[0], score)
    assert torch.equal(scorer.expected(rows, run), plain.expected(rows, run))
    error = scorer.standard_error(rows, run)
    if scorer.smoothing is None:
        assert_allclose(error, plain.standard_error(rows, run) / spread_of(scorer), rtol=1e-5)


def test_smoothing_by_scales_measures_the_score_with_its_bonus() -> None:
    plain, scorer = told(smoothing="auto")
    normal = kept(plain).standard
    assert len(normal.x) == 300
    assert scorer.head is not None
    with torch.no_grad():
        score, parts_ = scorer.head(read(scorer.module, normal), normal, *plain.unlabelled(normal))
    assert_allclose(scorer.get_buffer("normal_sd"), score.std(correction=0), rtol=1e-5)
    assert_allclose(scorer.get_buffer("normal_mean"), parts_.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert not torch.equal(scorer.get_buffer("normal_sd"), plain.get_buffer("normal_sd"))


def test_a_head_is_sealed_with_its_package(tmp_path: Path) -> None:
    from sealed import CONTRACT, rows, seal

    unit = seal(tmp_path / "plain").units["*"]
    values, run = unit.golden.values, unit.golden.run
    label = np.zeros(len(run), np.int64)
    normal = Series(*(torch.from_numpy(part) for part in (values, run, label)))
    off = values.copy()
    off[5, 0] += 3
    label[5] = 1
    known = Series(*(torch.from_numpy(part) for part in (off, run, label)))
    scorer = tell(
        unit.scorer,
        kept_rows(unit.scorer, train=normal, stop=normal),
        anomalies_of(unit.scorer, known),
        "strict",
    ).scorer
    golden = Golden.of(scorer, Matrix(values, run, label))
    provenance = Provenance("pumps", "f" * 64, readings_version=3, seed=0)
    written = ModelPackage(CONTRACT, {"*": Unit(scorer, golden, unit.calibration)}, provenance)
    written = written.write(tmp_path / "told")
    again = ModelPackage.read(tmp_path / "told")
    assert again.units["*"].scorer.head is not None
    assert again.units["*"].scorer.head.labels == "strict"
    assert again.score(rows(500)).equals(written.score(rows(500)))
    assert not again.score(rows(500)).equals(ModelPackage.read(tmp_path / "plain").score(rows(500)))


# ------------------------------------------------------------------------------ what is learnt from


def test_folds_say_how_much_the_labels_are_worth() -> None:
    plain = told()[0]
    found = tell(plain, kept(plain), anomalies_of(plain, labelled()), "default").note
    assert found.startswith(f"{N_LABELS} labelled anomalies lift what is like them")
    above, before = (float(x.split()[-1]) for x in found.split("%")[:2])
    rows, truth = np.concatenate([normal_rows(1000, 7), anomalies(300, 8)]), np.arange(1300) >= 1000
    for percent, scorer in zip((above, before), (told()[1], plain), strict=True):
        assert abs(percent / 100 - roc_auc_score(truth, scored(scorer, rows))) < 0.06


@pytest.mark.parametrize(("n", "called"), [(1, "1 labelled anomaly"), (2, "2 labelled anomalies")])
def test_below_three_labels_nothing_can_be_checked(n: int, called: str) -> None:
    plain = told()[0]
    found = tell(plain, kept(plain), anomalies_of(plain, labelled(n)), "default")
    assert found.note.startswith(called)
    assert "below 3 it cannot be checked" in found.note
    rows, truth = np.concatenate([normal_rows(500, 7), anomalies(200, 8)]), np.arange(700) >= 500
    assert roc_auc_score(truth, scored(found.scorer, rows)) > 0.5


def test_a_single_label_is_learnt_from_in_every_fold() -> None:
    plain, scorer = told(n=1)
    head, normal = scorer.head, kept(plain)
    assert head is not None
    rows = anomalies(1, 20)  # what `labelled` draws
    single = scorer.standardizer(torch.from_numpy(rows))
    with torch.no_grad():
        ours, theirs = (
            head.features(read(scorer.module, batch), batch, plain.unlabelled(batch)[0])
            for batch in (single, joined([normal.held_out, normal.known]))
        )
    whole = logistic(ours, theirs)
    found = head.weight / head.weight.norm()
    assert (found - whole / whole.norm()).norm() < 0.1
    assert_allclose(head.anomalies, head.placed(ours, single)[0], atol=1e-5)


def test_folds_do_not_take_wrong_labels_for_a_lesson() -> None:
    """Labels on normal rows, six at a time: in the folds they are no easier to find than others."""
    plain = told()[0]
    found = []
    for seed in range(8):
        wrong = series(normal_rows(6, 100 + seed), label=np.ones(6, np.int64))
        note = tell(plain, kept(plain), anomalies_of(plain, wrong), "strict").note
        found.append(float(note.split("%")[0].split()[-1]))
    assert 30 < np.mean(found) < 60


def test_rows_that_are_kept_are_few_and_normal() -> None:
    scorer = told()[0]
    train, stop = parts()
    doubled = Series(*(torch.cat([part] * 3) for part in train))
    doubled.label[::2] = 1
    found = kept_rows(scorer, train=doubled, stop=stop)
    assert len(found.held_out.x) == 300
    assert len(found.known.x) == MOST_ROWS - 300
    assert len(found.standard.x) == 0
    assert (joined([found.held_out, found.known]).label == 0).all()


def test_windows_that_remember_an_anomaly_are_no_normal_rows() -> None:
    scorer = told(window=3)[0]
    train, stop = parts()
    train.label[::10] = 1
    found = kept_rows(scorer, train=train, stop=stop)
    assert len(found.known.x) == 1500 * 7 // 10


def test_labels_in_stop_are_learnt_from_too() -> None:
    plain = trained()
    train, stop = parts()
    known = labelled()
    joint = Series(*(torch.cat(both) for both in zip(stop, known, strict=True)))
    in_stop = told_in_fit(plain, train=train, stop=joint, labels="default")
    in_train = told_in_fit(
        plain,
        train=Series(*(torch.cat(both) for both in zip(train, known, strict=True))),
        stop=stop,
        labels="default",
    )
    for found in (in_stop, in_train):
        assert found.scorer.head is not None
        assert found.notes[-1].startswith(f"{N_LABELS} labelled anomalies")
    assert told_in_fit(plain, train=train, stop=joint, labels="off") is plain
    assert told_in_fit(plain, train=train, stop=stop, labels="default") is plain


def test_only_members_that_do_not_train_on_labels_take_a_head() -> None:
    train, _ = parts()
    baseline = fit_baseline(train, n_context=0, baseline=next(iter(BASELINES)), seed=0).scorer
    assert not takes_labels(baseline.variant, "default")
    assert takes_labels(told()[0].variant, "strict")
    assert not takes_labels(told()[0].variant, "off")
    with pytest.raises(ConfigError, match="labels='strickt' is not known; did you mean 'strict'"):
        takes_labels(told()[0].variant, "strickt")


def test_labels_of_rows_without_a_value_teach_nothing_and_stop_nothing() -> None:
    plain, (train, stop) = trained(), parts()
    empty = Series(*(part.clone() for part in train))
    empty.rows[:3], empty.label[:3] = torch.nan, 1
    assert told_in_fit(plain, train=empty, stop=stop, labels="default") is plain
    rows, label = some(300, 6)
    rows[label > 0] = np.nan
    assert VAEDetector(training=QUICK, random_state=0).fit(rows, label).scorer_.head is None


def test_rows_without_a_labelled_anomaly_are_refused() -> None:
    plain = told()[0]
    empty = series(np.full((4, D), np.nan), label=np.ones(4, np.int64))
    for nothing in (series(normal_rows(5, 3)), empty):
        with pytest.raises(InputError, match="label at least one above 0"):
            tell(plain, kept(plain), anomalies_of(plain, nothing), "default")
    with pytest.raises(InputError, match="labels='off' learns nothing"):
        tell(plain, kept(plain), anomalies_of(plain, labelled()), "off")


# ----------------------------------------------------------------------------------- the detector


def some(n: int = 600, n_labels: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Normal rows, and some labelled anomalies after every fifty of them."""
    label = np.zeros(n, np.int64)
    label[np.linspace(10, n - 10, n_labels).astype(int)] = 2
    rows = normal_rows(n, 0)
    rows[label > 0] = anomalies(n_labels, 1)
    return rows, label


def test_off_is_as_without_labels_bit_for_bit() -> None:
    rows, label = some()
    fresh = normal_rows(300, 5)
    off = VAEDetector(labels="off", training=QUICK, random_state=0).fit(rows, label)
    none = VAEDetector(training=QUICK, random_state=0).fit(rows[label == 0])
    assert_array_equal(off.score_samples(fresh), none.score_samples(fresh))
    assert off.offset_ == none.offset_
    assert off.notes_ == none.notes_
    with pytest.raises(ValueError, match=r"labels='off' learns no labels after fit"):
        off.learn_labels(rows, label)


@pytest.mark.parametrize("mode", LEAKS)
def test_labels_that_come_after_fit_do_as_those_that_were_there(mode: Mode) -> None:
    rows, label = some()
    fresh = np.concatenate([normal_rows(300, 5), anomalies(100, 6)])
    at_once = VAEDetector(labels=mode, training=QUICK, random_state=0).fit(rows, label)
    later = VAEDetector(labels=mode, training=QUICK, random_state=0).fit(rows[label == 0])
    before = later.score_samples(fresh)
    weights = later.scorer_.module.state_dict()
    assert later.learn_labels(rows, label) is later
    assert_array_equal(later.score_samples(fresh), at_once.score_samples(fresh))
    assert later.offset_ == at_once.offset_
    assert later.threshold_ == at_once.threshold_
    assert later.notes_ == at_once.notes_
    assert not np.array_equal(later.score_samples(fresh), before)
    assert all(torch.equal(weights[k], w) for k, w in later.scorer_.module.state_dict().items())
    assert_array_equal(
        later.learn_labels(rows, label).score_samples(fresh), at_once.score_samples(fresh)
    )  # the same again changes nothing
    assert later.notes_ == at_once.notes_
    again = pickle.loads(pickle.dumps(later))
    again.learn_labels(anomalies(1, 3), [1])
    assert "1 labelled anomaly" in again.notes_[-1]
    assert not np.array_equal(again.score_samples(fresh), later.score_samples(fresh))


@pytest.mark.slow
def test_labels_after_fit_of_a_series_set_the_threshold_on_its_held_rows() -> None:
    rows, label = some(900)
    groups = np.repeat(["a", "b"], 450)
    detector = VAEDetector(window=3, smoothing="auto", training=QUICK, random_state=0)
    with pytest.warns(UserWarning, match="has a labelled anomaly"):
        detector.fit(rows, label, groups=groups)
    before = detector.offset_
    scores = detector.score_samples(rows, groups=groups)
    detector.learn_labels(rows, label, groups=groups)
    assert detector.offset_ == before
    assert_array_equal(detector.score_samples(rows, groups=groups), scores)
    held = np.concatenate([np.arange(360, 450), np.arange(810, 900)])
    assert detector.threshold_.n_calibration == (label[held] == 0).sum()


def test_threshold_keeps_its_promise_with_a_head() -> None:
    rows, label = some(3000, 30)
    detector = VAEDetector(false_alarm_rate=0.05, training=QUICK, random_state=0).fit(rows, label)
    fresh = normal_rows(4000, 9)
    assert 0.02 < np.mean(detector.predict(fresh) == -1) < 0.09


def test_a_detector_that_takes_no_labels_says_so() -> None:
    rows, label = some(300, 6)
    with pytest.raises(ValueError, match="labels='all' is not known"):
        VAEDetector(labels="all", training=QUICK).fit(rows, label)  # type: ignore[arg-type]
    detector = VAEDetector(training=QUICK, random_state=0).fit(rows)
    with pytest.raises(ValueError, match="label at least one above 0"):
        detector.learn_labels(rows, np.zeros(300))


@pytest.mark.slow
def test_semi_supervised_learns_labels_in_training_alone() -> None:
    rows, label = some()
    detector = VAEDetector("semi_supervised", training=QUICK, random_state=0).fit(rows, label)
    assert detector.scorer_.head is None
    with pytest.raises(ValueError, match="semi_supervised with labels='default' learns no labels"):
        detector.learn_labels(rows, label)


@pytest.mark.slow
def test_labels_are_learnt_in_under_a_second() -> None:
    rng = np.random.default_rng(0)
    rows, label = rng.normal(size=(5000, 20)), np.zeros(5000)
    label[:40], rows[:40, 3] = 1, 4.0
    short = Training(max_steps=50, min_steps=50)
    detector = VAEDetector(training=short, random_state=0).fit(rows[40:])
    began = time.process_time()
    detector.learn_labels(rows[:40], label[:40])
    assert time.process_time() - began < 1


# -------------------------------------------------------------------------------------- the flows


def labelled_plant(folder: Path, more: str = "") -> Path:
    """The small plant, whose readings bear a fault now and then in every file."""
    path = write_plant(folder)
    for file in (folder / "incoming").iterdir():
        head, *lines = file.read_text().splitlines()
        for i, line in enumerate(lines):
            time_, asset, flow, pressure, power = line.split(",")
            is_faulty = i % 60 < 4
            if is_faulty:
                pressure = f"{float(pressure) + 0.4:.6f}"
            lines[i] = ",".join([time_, asset, flow, pressure, power, str(int(is_faulty))])
        file.write_text("\n".join([f"{head},fault", *lines]) + "\n")
    text = path.read_text().replace("  asset: asset\n", "  asset: asset\n  label: fault\n")
    kept_ = [line for line in text.splitlines() if not line.startswith(("window", "smoothing"))]
    path.write_text("\n".join(kept_) + "\n" + more)
    return path


@pytest.mark.slow
def test_a_plant_with_labelled_faults_in_train_is_judged_with_their_help(tmp_path: Path) -> None:
    scorers = {}
    for name, more in (
        ("default", "smoothing: auto\n"),
        ("strict", "model: {labels: strict}\n"),
        ("off", "model: {labels: off}\n"),
    ):
        plant = read_plant(labelled_plant(tmp_path / name, more))
        run_all(plant)
        folder = latest_trained(plant)
        scorers[name] = ModelPackage.read(folder / "package").units["*"].scorer
        notes = ModelPackage.read(folder / "draft").provenance.notes
        told_so = any("labelled anomalies lift" in note for note in notes)
        assert told_so == (name != "off")
    assert scorers["off"].head is None
    for name in ("default", "strict"):
        head = scorers[name].head
        assert head is not None
        assert head.labels == name
        assert head.weight.any()
