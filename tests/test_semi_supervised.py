"""M2: its bounds are those of its densities, and a few labels make anomalies easier to find."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from crash import run_all
from linear_plant import NOISE, QUICK, D, normal_rows, series, with_gaps
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from vae_anomaly import ModelPackage, VAEDetector
from vae_anomaly.config import read_plant
from vae_anomaly.data.lake import VERDICTS, Lake
from vae_anomaly.data.lake import rows as rows_of
from vae_anomaly.errors import InputError, PartsError
from vae_anomaly.models.classes import ClassVAE
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import importance_bound
from vae_anomaly.models.variants import Gaussian, SemiSupervised
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.scores import SCORES
from vae_anomaly.scoring.scores.labels import MOST, WEIGHT
from vae_anomaly.scoring.specification import build_scorer, scorer_spec
from vae_anomaly.steps.train import latest_trained

#: Which sensors a kind of anomaly moves; labels with a gap between them.
KINDS = {1: (2,), 7: (0, 4)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(
    labels: tuple[int, ...], *, n_context: int = 0, std: float = 0.3, **settings: object
) -> ClassVAE:
    """A model of five sensors with random weights that has seen rows of these labels."""
    with seeded(0):
        variant = SemiSupervised(**settings)  # type: ignore[arg-type]
        model = variant.build(Shape(5, n_context, n_classes=max(labels)))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=std)
    model.count(torch.tensor(labels))
    return model.eval()


def batch_of(n: int, label: int | list[int], *, n_context: int = 0, seed: int = 1) -> Batch:
    x = torch.randn(n, 5, generator=generator(seed))
    context = torch.randn(n, n_context, generator=generator(seed + 1))
    return Batch(x, torch.ones(n, 5, dtype=torch.bool), context, torch.tensor(label).expand(n))


def bound(model: ClassVAE, batch: Batch, **settings: float) -> torch.Tensor:
    return SemiSupervised(**settings).bound(model, batch, 1.0, generator())  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- the bounds


def test_without_labelled_anomalies_it_is_the_gaussian_vae() -> None:
    batch = batch_of(30, [-1, 0] * 15, n_context=2)
    with seeded(0):
        ours = SemiSupervised().build(Shape(5, 2))
    with seeded(0):
        plain = Gaussian().build(Shape(5, 2))
    assert torch.equal(bound(ours, batch), Gaussian().bound(plain, batch, 1.0, generator()))
    assert torch.equal(ours.embed(batch), plain.embed(batch))
    assert torch.equal(ours.spread(batch), plain.spread(batch))
    assert torch.equal(ours.class_probabilities(batch), torch.ones(30, 1))
    weights = importance_bound(ours, batch, n_samples=5, generator=generator())
    assert torch.equal(weights, importance_bound(plain, batch, n_samples=5, generator=generator()))
    z = ours.draw(batch.context, generator())
    assert torch.equal(z, plain.draw(batch.context, generator()))


def test_kinds_that_no_row_bears_change_nothing() -> None:
    batch = batch_of(30, -1)
    model = untrained((0, 3))
    model.counts.zero_()
    plain = Gaussian().bound(model.normal, batch, 1.0, generator())
    assert torch.equal(bound(model, batch), plain)


@torch.no_grad()
def integrated(model: ClassVAE, batch: Batch) -> torch.Tensor:
    """log p(x, y | c) of each known class by the trapezoidal rule over a 1-d latent, (n, K')."""
    grid = torch.linspace(-12, 12, 1001)
    z = grid[:, None, None].expand(-1, len(batch.x), 1)
    found = []
    for label in model.known.tolist():
        code = torch.eye(model.n_faults + 1)[label].expand(*z.shape[:-1], -1)
        p = model.likelihood(torch.cat([code, z], dim=-1), batch.context)
        log_prior = -0.5 * (z.square().squeeze(-1) + math.log(2 * math.pi))
        log_joint = (p.log_prob(batch.x) * batch.observed).sum(dim=-1) + log_prior
        found.append(log_joint.logsumexp(dim=0) + math.log(24 / 1000))
    return torch.stack(found, dim=-1) + model.log_prior()


@pytest.mark.slow
@pytest.mark.parametrize("n_context", [0, 2])
def test_bounds_stay_below_the_integrated_densities(n_context: int) -> None:
    model = untrained((0, 0, 1, 3, 3), n_context=n_context, latent_dim=1, hidden=(6,))
    batch = batch_of(8, -1, n_context=n_context)
    batch.observed[:, 1] = False
    log_joint = integrated(model, batch)
    many = Batch(*(part.expand(1000, *part.shape) for part in batch))
    with torch.no_grad():
        unlabelled = bound(model, many).mean(dim=0)
        for number, label in enumerate(model.known.tolist()):
            labelled = bound(model, many._replace(label=torch.full_like(many.label, label)))
            assert (labelled.mean(dim=0) <= log_joint[:, number] + 0.05).all()
        marginal = importance_bound(model, batch, n_samples=10_000, generator=generator())
    assert (unlabelled <= log_joint.logsumexp(dim=-1) + 0.05).all()
    assert (unlabelled < log_joint.logsumexp(dim=-1) - 0.1).any()
    assert_allclose(marginal, log_joint.logsumexp(dim=-1), atol=0.1)


def by_class(model: ClassVAE, batch: Batch) -> torch.Tensor:
    """Bound of each row, were it of each known class, with the same noise, (n, K')."""
    labels = [torch.full_like(batch.label, label) for label in model.known.tolist()]
    return torch.stack([bound(model, batch._replace(label=label)) for label in labels], dim=-1)


def test_unlabelled_rows_are_summed_over_the_classes() -> None:
    model, batch = untrained((0, 2, 2, 3)), batch_of(20, -1)
    log_joint, log_q = by_class(model, batch), model.log_classes(batch)
    expected = (log_q.exp() * (log_joint - log_q)).sum(dim=-1)
    assert_allclose(bound(model, batch).detach(), expected.detach(), rtol=1e-5)
    assert (bound(model, batch) <= log_joint.logsumexp(dim=-1) + 1e-5).all()


def test_gradient_of_the_classifier_is_that_of_the_sum() -> None:
    """d/d logits of sum q (l - log q) is q (l - log q - its mean under q)."""
    model, batch = untrained((0, 1, 2)), batch_of(20, -1)
    last = [m for m in model.classifier.modules() if isinstance(m, torch.nn.Linear)][-1]
    (found,) = torch.autograd.grad(bound(model, batch).sum(), last.bias)
    log_joint, log_q = by_class(model, batch), model.log_classes(batch)
    gain = log_joint - log_q
    expected = log_q.exp() * (gain - (log_q.exp() * gain).sum(dim=-1, keepdim=True))
    assert_allclose(found, expected.sum(dim=0).detach(), rtol=1e-3, atol=1e-3)


def test_classes_share_the_weight_of_the_labels_alike() -> None:
    """In training log q(y | x) is added with alpha a row; here 8 rows, of 1, 2 and 1 a class."""
    model = untrained((0, 1, 2), std=0.05)
    model.counts.zero_()
    batch = batch_of(8, [-1, -1, -1, -1, 0, 1, 1, 2])
    model.train()
    first = bound(model, batch, alpha=5.0)
    model.counts.zero_()
    told = (first - bound(model, batch, alpha=0.0)).detach()
    log_q = model.log_classes(batch).detach()
    own = [log_q[4, 0], log_q[5, 1] / 2, log_q[6, 1] / 2, log_q[7, 2]]
    assert_allclose(told[:4], 0.0)
    assert_allclose(told[4:], 5.0 * 8 / 3 * torch.stack(own), rtol=1e-4)


def test_prior_is_the_share_of_the_rows_and_never_below_the_least() -> None:
    model = untrained((0, 1, 3), least_share=0.1)
    model.counts.zero_()
    model.count(torch.tensor([-1] * 50 + [0] * 20 + [3] * 29 + [1] + [9]))  # 9 is beyond the model
    assert model.known.tolist() == [0, 1, 3]
    assert_allclose(model.log_prior().exp(), np.array([0.7, 0.1, 0.29]) / 1.09, rtol=1e-6)


def test_labels_that_training_did_not_see_count_as_unknown() -> None:
    model = untrained((0, 1, 3))
    unknown = bound(model, batch_of(10, -1))
    assert torch.equal(bound(model, batch_of(10, 2)), unknown)
    assert torch.equal(bound(model, batch_of(10, 8)), unknown)
    assert not torch.equal(bound(model, batch_of(10, 3)), unknown)


def test_evaluation_counts_no_labels() -> None:
    model = untrained((0, 1))
    before = model.counts.clone()
    bound(model, batch_of(10, 1))
    assert torch.equal(model.counts, before)


def test_gradient_reaches_every_parameter() -> None:
    model = untrained((0, 1, 2)).train()
    bound(model, batch_of(12, [-1, 0, 1, 2] * 3)).mean().backward()
    for path, parameter in model.named_parameters():
        assert parameter.grad is not None, path
        assert (parameter.grad != 0).any(), path


@pytest.mark.parametrize(
    "settings",
    [{"prior": "conditional"}, {"n_samples": 4}, {"free_bits": 0.1}, {"hidden": ()}],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("n_context", [0, 2])
def test_shared_settings_hold_for_every_class(n_context: int, settings: dict[str, object]) -> None:
    variant = SemiSupervised(**settings)  # type: ignore[arg-type]
    with seeded(0):
        model = variant.build(Shape(5, n_context, n_classes=3)).train()
    batch = batch_of(12, [-1, 0, 1, 3] * 3, n_context=n_context)
    found = variant.bound(model, batch, 0.5, generator())
    assert found.shape == (12,)
    assert found.isfinite().all()
    z = model.draw(batch.context, generator(), 3)
    assert model.likelihood(z, batch.context).mean.isfinite().all()


def test_ensemble_axis_goes_through() -> None:
    model, batch = untrained((0, 1, 2), n_context=1), batch_of(12, [-1, 0, 1, 2] * 3, n_context=1)
    stacked = Batch(*(torch.stack([part, part, part]) for part in batch))
    assert bound(model, stacked).shape == (3, 12)
    assert model.class_probabilities(stacked).shape == (3, 12, 3)
    assert importance_bound(model, stacked, n_samples=2, generator=generator()).shape == (3, 12)


def test_labels_of_normal_rows_teach_normal_rows_alone() -> None:
    """What is learnt of labelled anomalies cannot change how a row is judged as normal."""
    model = untrained((0, 1)).train()
    bound(model, batch_of(10, 1)).mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in model.normal.parameters())


# -------------------------------------------------------------------------------- as a user has it


def plant_rows(n: int, seed: int, share: float, size: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the linear plant, a share of which is of each kind of anomaly; their labels."""
    rows, label = normal_rows(n, seed), np.zeros(n, np.int64)
    draw = np.random.default_rng(seed).random(n)
    for number, (kind, sensors) in enumerate(KINDS.items()):
        mine = (draw >= number * share) & (draw < (number + 1) * share)
        label[mine] = kind
        for sensor in sensors:
            rows[mine, sensor] += size * NOISE * 10.0 ** (sensor - 2)
    return rows, label


@lru_cache
def fitted(known: float = 1.0, window: int = 1, size: float = 4.0) -> FittedScorer:
    """A scorer whose training rows hold 2 % of each kind; a share of all rows is labelled."""
    parts = []
    for n, seed in ((1500, 0), (300, 1)):
        rows, label = plant_rows(n, seed, 0.02, size)
        hidden = np.random.default_rng(9).random(n) >= known
        parts.append(series(with_gaps(rows, 0.02), label=np.where(hidden, -1, label)))
    return fit_scorer(
        *parts, n_context=0, variant=SemiSupervised(), training=QUICK, window=window, seed=0
    )


@pytest.mark.slow
def test_kinds_with_a_gap_between_their_labels_are_told_apart() -> None:
    scorer = fitted().scorer
    rows, label = plant_rows(1000, 5, 0.1)
    found = scorer.class_probabilities(*series(rows)[:2])
    assert found.shape == (1000, 8)
    assert_allclose(found.sum(dim=-1), 1.0, rtol=1e-5)
    assert (found[:, 2:7] == 0).all()
    for kind in (0, *KINDS):
        assert roc_auc_score(label == kind, found[:, kind]) > 0.85, kind


@pytest.mark.slow
def test_labels_make_anomalies_easier_to_find() -> None:
    rows, label = plant_rows(2000, 6, 0.1)
    told = fitted().scorer(*series(rows)[:2])[0]
    reconstruction = fit_scorer(
        *(series(*plant_rows(n, seed, 0.02)[:1], label=plant_rows(n, seed, 0.02)[1])
          for n, seed in ((1500, 0), (300, 1))),
        n_context=0, variant=Gaussian(), training=QUICK, seed=0,
    ).scorer(*series(rows)[:2])[0]  # fmt: skip
    areas = [roc_auc_score(label > 0, score) for score in (told, reconstruction)]
    assert areas[0] > areas[1] + 0.02


@pytest.mark.slow
def test_unlabelled_anomalies_are_told_by_the_labelled_ones() -> None:
    """Where a fifth of the labels is known, the others are filled in by the sum over classes."""
    scorer = fitted(known=0.2, size=10.0).scorer
    rows, label = plant_rows(1000, 5, 0.1, size=10.0)
    found = 1 - scorer.class_probabilities(*series(rows)[:2])[:, 0]
    assert roc_auc_score(label > 0, found) > 0.9


@pytest.mark.slow
def test_rows_of_a_kind_can_be_drawn() -> None:
    scorer = fitted().scorer
    model = scorer.module
    assert isinstance(model, ClassVAE)
    context = torch.zeros(4000, 0)
    with torch.no_grad():
        means = {
            label: scorer.standardizer.restored(
                model.likelihood(model.draw(context, generator(), label), context).mean
            ).mean(dim=0)
            for label in (0, *KINDS)
        }
    unit = torch.tensor(10.0, dtype=torch.float64) ** (torch.arange(D) - 2)
    assert_allclose((means[0] - 50) / unit, 0.0, atol=0.25)
    for kind, sensors in KINDS.items():
        moved = ((means[kind] - means[0]) / (4 * NOISE * unit)).numpy()
        assert_allclose(moved[list(sensors)], 1.0, atol=0.5)
    with pytest.raises(InputError, match="label 3 is no class of this model; it learnt 0, 1, 7"):
        model.draw(context, generator(), 3)


def test_latents_between_two_classes_lie_between_them() -> None:
    model = untrained((0, 1, 2))
    context = torch.zeros(1, 0)
    z = torch.cat([torch.eye(3), torch.zeros(3, model.noise_dim)], dim=-1)
    half = (z[0] + z[1]) / 2
    ends = model.likelihood(z, context.expand(3, 0))
    between = model.likelihood(half[None], context)
    assert_allclose(between.mean[0].detach(), ends.mean[:2].mean(dim=0).detach(), rtol=1e-4)
    nowhere = model.likelihood(torch.zeros(1, z.shape[-1]), context)
    assert_allclose(nowhere.mean[0].detach(), ends.mean[0].detach(), rtol=1e-4)


@pytest.mark.slow
def test_rows_are_embedded_as_normal_ones() -> None:
    scorer = fitted().scorer
    rows, label = plant_rows(500, 5, 0.2)
    batch = scorer.standardizer(torch.from_numpy(rows))
    z = scorer.module.embed(batch)
    assert (z[:, 0] == 1).all()
    assert (z[:, 1:8] == 0).all()
    assert (scorer.module.spread(batch)[:, :8] == 0).all()
    expected = scorer.expected(*series(rows)[:2])  # what it would read if it were normal
    off = (torch.from_numpy(rows) - expected)[:, 2] * 10 ** (2 - 2)
    assert off[label == 1].mean() > 1.5 * NOISE
    assert abs(off[label == 0].mean()) < 0.2 * NOISE


@pytest.mark.slow
def test_training_log_tells_how_many_labels_are_told_right() -> None:
    scorer = fitted().scorer
    rows, label = plant_rows(500, 5, 0.1)
    batch = scorer.standardizer(torch.from_numpy(rows))._replace(label=torch.from_numpy(label))
    with torch.no_grad():
        figures = scorer.module.figures(batch)
    assert 0.6 < figures["class_accuracy"] <= 1
    assert figures["divergence"] > 0
    unlabelled = batch._replace(label=torch.full_like(batch.label, -1))
    with torch.no_grad():
        assert "class_accuracy" not in scorer.module.figures(unlabelled)


# --------------------------------------------------------------------------------------- the score


def judged(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    scorer = fitted().scorer
    return scorer(*series(rows)[:2])


@pytest.mark.slow
def test_score_adds_a_bounded_bonus_to_the_reconstruction() -> None:
    scorer, model = fitted().scorer, fitted().scorer.module
    assert isinstance(model, ClassVAE)
    rows, label = plant_rows(500, 8, 0.2)
    batch, tensors = (
        scorer.standardizer(torch.from_numpy(rows)),
        dict(scorer.tensors.named_buffers()),
    )
    score, contributions = SCORES["labels"].score(model, batch, tensors)
    plain, _ = SCORES["reconstruction"].score(model, batch, {})
    bonus = score - plain / tensors["scale"]
    above = (model.evidence(batch) - tensors["evidence_level"]) / tensors["evidence_spread"]
    assert_allclose(bonus.detach(), WEIGHT * above.clamp(0, MOST).detach(), atol=1e-3)
    assert bonus.max() <= WEIGHT * MOST + 1e-3
    assert np.mean(bonus.detach().numpy()[label == 0] > 1e-3) < 0.3
    assert_allclose(contributions.sum(dim=-1).detach(), score.detach(), rtol=1e-5)
    assert (contributions >= 0).all()


@pytest.mark.slow
def test_missing_sensors_contribute_nothing_to_it() -> None:
    rows = with_gaps(plant_rows(300, 8, 0.2)[0], 0.3)
    rows[0] = np.nan
    score, contributions = judged(rows)
    assert score.isfinite().all()
    assert (contributions[torch.from_numpy(np.isnan(rows))] == 0).all()
    assert score[0] == 0


@pytest.mark.slow
def test_without_labels_it_is_the_reconstruction_score_to_scale() -> None:
    parts = [series(normal_rows(n, n)) for n in (400, 100)]
    ours, plain = (
        fit_scorer(*parts, n_context=0, variant=variant, training=QUICK, seed=0).scorer
        for variant in (SemiSupervised(), Gaussian())
    )
    assert ours.anomaly_score == "labels"
    assert plain.anomaly_score == "reconstruction"
    rows = series(normal_rows(200, 7))[:2]
    assert_allclose(ours(*rows)[0] * ours.tensors.scale, plain(*rows)[0], rtol=1e-4)


@pytest.mark.slow
def test_rows_score_the_same_however_they_are_split() -> None:
    rows, run, _ = series(with_gaps(plant_rows(1500, 4, 0.1)[0]))
    scorer = fitted(window=3).scorer
    whole, parts = scorer(rows, run)
    classes = scorer.class_probabilities(rows, run)
    for first in (1, 700, 1100):
        start = first - scorer.left_context if first > 1 else 0
        own = run[start:] - start
        again, again_parts = scorer(rows[start:], own)
        assert torch.equal(again[first - start :], whole[first:])
        assert torch.equal(again_parts[first - start :], parts[first:])
        again_classes = scorer.class_probabilities(rows[start:], own)
        assert torch.equal(again_classes[first - start :], classes[first:])


@pytest.mark.slow
def test_scorer_is_the_same_after_it_was_written_and_read() -> None:
    scorer = fitted().scorer
    again = build_scorer(scorer_spec(scorer))
    again.load_state_dict(scorer.state_dict())
    rows = series(plant_rows(300, 4, 0.1)[0])[:2]
    assert torch.equal(again(*rows)[0], scorer(*rows)[0])
    assert torch.equal(again.class_probabilities(*rows), scorer.class_probabilities(*rows))


def test_members_without_classes_say_so() -> None:
    parts = [series(normal_rows(n, n)) for n in (100, 50)]
    scorer = fit_scorer(*parts, n_context=0, variant=Gaussian(), training=QUICK, seed=0).scorer
    with pytest.raises(InputError, match="gaussian knows no classes; train semi_supervised"):
        scorer.class_probabilities(*parts[0][:2])


def test_stop_without_a_normal_row_is_refused() -> None:
    rows = normal_rows(50, 0)
    with pytest.raises(PartsError, match="none of the 50 rows of part 'stop' is normal"):
        fit_scorer(
            series(normal_rows(100, 1)),
            series(rows, label=np.ones(50, np.int64)),
            n_context=0,
            variant=SemiSupervised(),
            training=QUICK,
            seed=0,
        )


def test_absurd_labels_are_refused() -> None:
    with pytest.raises(InputError, match="the highest label is 4711, and 1000 are allowed"):
        SemiSupervised().build(Shape(3, n_classes=4711))


# ------------------------------------------------------------------------------------ the detector


@pytest.mark.filterwarnings("ignore:.*calibration rows support")
@pytest.mark.slow
def test_detector_learns_from_a_few_labels() -> None:
    rows, label = plant_rows(1500, 0, 0.02)
    detector = VAEDetector("semi_supervised", training=QUICK, random_state=0).fit(rows, label)
    plain = VAEDetector(labels="off", training=QUICK, random_state=0).fit(rows, label)
    test, truth = plant_rows(2000, 6, 0.1)
    areas = [roc_auc_score(truth > 0, -d.score_samples(test)) for d in (detector, plain)]
    assert areas[0] > areas[1] + 0.02
    assert detector.class_probabilities(test).shape == (2000, 8)
    assert_allclose(
        detector.contributions(test).sum(axis=1), -detector.score_samples(test), rtol=1e-5
    )
    with pytest.raises(ValueError, match="gaussian knows no classes"):
        plain.class_probabilities(test)


@pytest.mark.filterwarnings("ignore:.*calibration rows support")
@pytest.mark.slow
def test_one_labelled_anomaly_is_enough_to_fit() -> None:
    rows, label = plant_rows(400, 0, 0.0)
    rows[17, 2] += 4 * NOISE
    label[17] = 1
    detector = VAEDetector("semi_supervised", training=QUICK, random_state=0).fit(rows, label)
    assert detector.class_probabilities(rows)[17, 1] > 0.5


# --------------------------------------------------------------------------------------- the flows


def write_plant(folder: Path) -> Path:
    """A plant file with a label column: 1 and 7 are kinds, nothing is unknown, 0 is normal."""
    rows, label = plant_rows(3000, 0, 0.02, size=8.0)
    known = np.random.default_rng(3).random(len(rows)) < 0.7
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    lines = ["time," + ",".join(f"s{sensor}" for sensor in range(D)) + ",fault"]
    for number, values in enumerate(rows):
        cells = [f"{value:.6f}" for value in values]
        told = str(label[number]) if known[number] else ""
        time = (begin + timedelta(minutes=number)).isoformat()
        lines.append(",".join([time, *cells, told]))
    (folder / "incoming").mkdir()
    (folder / "incoming/0.csv").write_text("\n".join(lines) + "\n")
    plant = folder / "plant.yml"
    plant.write_text(
        "name: labels\n"
        "source: {path: incoming, settle_s: 0}\n"
        "contract:\n"
        "  time: time\n"
        "  label: fault\n"
        f"  sensors: [{', '.join(f's{sensor}' for sensor in range(D))}]\n"
        "model: {variant: semi_supervised}\n"
        "calibration: {bootstrap: 100}\n"
        "training: {epochs: 1, min_steps: 300, max_steps: 300, checks: 6, learning_rate: 1.e-2}\n"
    )
    return plant


@pytest.mark.slow
def test_plant_with_a_label_column_goes_through_the_steps(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path))
    run_all(plant)
    package = ModelPackage.read(latest_trained(plant) / "package")
    scorer = package.units["*"].scorer
    assert isinstance(scorer.module, ClassVAE)
    assert scorer.module.known.tolist() == [0, *KINDS]
    assert scorer.anomaly_score == "labels"

    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    verdicts = pa.Table.from_batches(list(rows_of(table))).sort_by("time")
    rows, label = plant_rows(3000, 0, 0.02, size=8.0)
    assert verdicts.num_rows == 3000
    test = np.arange(3000) >= 2400  # neither trained nor calibrated on
    score = verdicts["score"].to_numpy()
    assert roc_auc_score(label[test] > 0, score[test]) > 0.95
    found = scorer.class_probabilities(*series(rows)[:2]).argmax(dim=-1).numpy()
    for kind in KINDS:
        assert np.mean(found[test & (label == kind)] == kind) > 0.6, kind
