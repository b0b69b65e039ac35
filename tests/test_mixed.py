"""Numbers and levels in one table: each has its own likelihood, from the encoder to the verdict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from crash import run_all
from linear_plant import series
from mlflow.pyfunc.model import PythonModelContext
from numpy.testing import assert_allclose
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import log_loss, roc_auc_score
from valve_plant import COLUMNS, LEVELS, PHASES, valve_rows

from vae_anomaly import ModelPackage, VAEDetector
from vae_anomaly.config import PlantConfig, Training, read_plant
from vae_anomaly.config.model import MIXED
from vae_anomaly.data.lake import QUARANTINE, READINGS, VERDICTS, Lake, rows
from vae_anomaly.errors import ConfigError, InputError
from vae_anomaly.mlflow_model import PackageModel
from vae_anomaly.models.mixed import LevelColumns, MixedLikelihood, Places, hide_codes
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, fit_standardizer
from vae_anomaly.models.training import seeded
from vae_anomaly.models.vae import VAE, elbo, importance_bound
from vae_anomaly.models.variants import VARIANTS, Gaussian, Mixed, Variant
from vae_anomaly.scoring.fitting import FittedScorer, fit_scorer
from vae_anomaly.scoring.scorer import Scorer
from vae_anomaly.scoring.specification import build_scorer, scorer_spec
from vae_anomaly.steps.train import latest_trained

SHAPE = Shape(n_sensors=6, levels=LEVELS)
VALVE, PHASE = COLUMNS.index("valve"), COLUMNS.index("phase")
NUMBERS = [at for at, n in enumerate(LEVELS) if not n]

#: Enough to learn this plant roughly, in seconds.
FEW = Training(epochs=1, min_steps=300, max_steps=300, checks=4, learning_rate=1e-2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def untrained(shape: Shape = SHAPE, **settings: object) -> VAE:
    with seeded(0):
        vae = Mixed(**settings).build(shape)  # type: ignore[arg-type]
        for parameter in vae.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    vae.encoder.columns.learnt.fill_(True)
    return vae.eval()


def batch_of(n: int, *, seed: int = 0, gaps: float = 0.0, window: int = 1) -> Batch:
    """Standardised rows of the plant, a share of their entries missing."""
    values = torch.from_numpy(valve_rows(n * window, seed).values)
    values[torch.rand(values.shape, generator=generator(seed)) < gaps] = torch.nan
    rows = fit_standardizer(values, 0, levels=LEVELS)(values)
    x, observed = (part.reshape(n, -1) for part in rows[:2])
    return Batch(x, observed, torch.zeros(n, 0), torch.zeros(n, dtype=torch.int64))


def fitted(variant: Variant, seed: int, **settings: object) -> FittedScorer:
    return fit_scorer(
        series(valve_rows(3000, seed).values),
        series(valve_rows(600, seed + 100).values),
        n_context=0,
        variant=variant,
        levels=LEVELS if variant.knows_levels else (),
        seed=seed,
        **{"training": Training(), **settings},  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def quick() -> Scorer:
    return fitted(Mixed(), 0, training=FEW).scorer


# ------------------------------------------------------------------------------------ likelihood


def test_log_density_is_that_of_a_normal_and_of_a_softmax() -> None:
    vae, batch = untrained(), batch_of(50)
    z = torch.randn(50, vae.noise_dim, generator=generator())
    with torch.no_grad():
        p = vae.likelihood(z, batch.context)
        got = p.log_prob(batch.x).double().numpy()
        columns = vae.decoder.net(z, batch.context).double().numpy()
        sigma = vae.decoder.sigma.double().numpy()
    loc, x = columns[:, [0, 7, 8, 9]], batch.x.double().numpy()
    assert_allclose(got[:, NUMBERS], norm.logpdf(x[:, NUMBERS], loc, sigma), rtol=1e-5, atol=1e-5)
    for feature, own in ((VALVE, slice(1, 3)), (PHASE, slice(3, 7))):
        log_p = log_softmax(columns[:, own], axis=1)
        code = x[:, feature].astype(int) - 1
        assert_allclose(got[:, feature], log_p[np.arange(50), code], atol=1e-5)
        labels = list(range(own.stop - own.start))
        loss = log_loss(code, np.exp(log_p), labels=labels)
        assert_allclose(-got[:, feature].mean(), loss, rtol=1e-5)


@pytest.mark.parametrize("window", [1, 3])
def test_probabilities_of_the_levels_sum_to_one(window: int) -> None:
    vae = untrained(SHAPE._replace(window=window))
    p = vae.likelihood(torch.randn(20, vae.noise_dim, generator=generator()), torch.zeros(20, 0))
    with torch.no_grad():
        for feature, n_levels in enumerate(LEVELS * window):
            codes = torch.zeros(n_levels, 1, len(LEVELS) * window)
            codes[..., feature] = torch.arange(1.0, n_levels + 1)[:, None]
            total = p.log_prob(codes)[..., feature].exp().sum(dim=0)
            assert_allclose(total, 1.0 if n_levels else 0.0, atol=1e-6)


def test_deviance_is_what_the_log_likelihood_falls_short_of_the_best() -> None:
    vae, batch = untrained(), batch_of(50)
    p = vae.likelihood(torch.zeros(50, vae.noise_dim), batch.context)
    best = torch.zeros(6)
    best[NUMBERS] = -vae.decoder.sigma.log() - 0.5 * math.log(2 * math.pi)
    with torch.no_grad():
        assert_allclose(p.deviance(batch.x), 2 * (best - p.log_prob(batch.x)), atol=1e-4)


def test_draws_have_the_mean_and_spread_that_the_likelihood_says() -> None:
    vae = untrained()
    z = torch.randn(1, vae.noise_dim, generator=generator()).expand(40_000, -1)
    with torch.no_grad():
        p = vae.likelihood(z, torch.zeros(len(z), 0))
        drawn = p.draw(generator())
        assert torch.equal(drawn, p.draw(generator()))
        assert_allclose(drawn.std(dim=0), p.stddev[0], rtol=0.02, atol=0.01)
        assert_allclose(drawn[:, NUMBERS].mean(dim=0), p.mean[0, NUMBERS], atol=0.05)
        for feature in (VALVE, PHASE):
            often = drawn[:, feature].long().bincount(minlength=1 + LEVELS[feature])
            code = torch.arange(1.0, LEVELS[feature] + 1)
            told = [p.log_prob(torch.full((6,), float(c)))[0, feature].exp() for c in code]
            assert_allclose(often[1:] / len(z), told, atol=0.01)
            assert p.mean[0, feature] == code[int(np.argmax(told))]


@pytest.mark.parametrize("levels", [(0, 0, 0), (2, 3, 4)], ids=["numbers", "levels"])
def test_a_table_may_have_either_alone(levels: tuple[int, ...]) -> None:
    vae = untrained(Shape(n_sensors=3, levels=levels))
    p = vae.likelihood(vae.draw(torch.zeros(7, 0), generator()), torch.zeros(7, 0))
    for values in (p.mean, p.stddev, p.draw(generator()), p.log_prob(torch.ones(7, 3))):
        assert values.shape == (7, 3)
        assert values.isfinite().all()


def test_without_levels_it_is_the_gaussian_member() -> None:
    mixed, gaussian = Mixed().build(Shape(6)), Gaussian().build(Shape(6))
    weights = [parameter.data for parameter in mixed.parameters()]
    for parameter, value in zip(gaussian.parameters(), weights, strict=True):
        parameter.data = value
    batch = batch_of(20, gaps=0.1)
    bounds = [elbo(vae, batch, generator=generator()) for vae in (mixed, gaussian)]
    assert_allclose(*(bound.detach() for bound in bounds), rtol=1e-6)


# ------------------------------------------------------------------------------------ the bounds


def test_bounds_stay_below_the_integrated_density_and_rise_to_it() -> None:
    vae, batch = untrained(latent_dim=1, hidden=(6,)), batch_of(8, gaps=0.2)
    for parameter in vae.encoder.parameters():  # near the prior, so that no sample rules the sum
        parameter.data *= 0.3
    z = torch.linspace(-12, 12, 4001)[:, None, None].expand(-1, 8, 1)
    many = Batch(*(part.expand(4000, *part.shape) for part in batch))
    with torch.no_grad():
        log_joint = (vae.likelihood(z, batch.context).log_prob(batch.x) * batch.observed).sum(-1)
        log_joint += vae.prior(batch.context).log_prob(z)
        log_density = log_joint.logsumexp(dim=0) + math.log(24 / 4000)
        single = elbo(vae, many, generator=generator()).mean(dim=0)
        few = Batch(*(part[:50] for part in many))
        weighted = importance_bound(vae, few, n_samples=4000, generator=generator()).mean(dim=0)
    assert (single <= weighted + 0.02).all()
    assert (weighted <= log_density + 0.02).all()
    assert_allclose(weighted, log_density, atol=0.15)


@pytest.mark.parametrize(("window", "backbone"), [(1, "mlp"), (3, "mlp"), (8, "temporal")])
def test_gradient_reaches_every_parameter(
    window: int, backbone: Literal["mlp", "temporal"]
) -> None:
    variant, batch = Mixed(backbone=backbone), batch_of(60, gaps=0.1, window=window)
    with seeded(0):
        vae = variant.build(SHAPE._replace(window=window))
    variant.bound(vae, batch, 1.0, generator()).mean().backward()
    for path, parameter in vae.named_parameters():
        assert parameter.grad is not None, path
        assert (parameter.grad != 0).any(), path
        assert parameter.grad.isfinite().all(), path


def test_what_is_missing_is_worth_nothing_and_moves_nothing() -> None:
    vae, batch = untrained(), batch_of(50, gaps=0.3)
    assert (batch.x[~batch.observed] == 0).all()
    unseen = batch.x.clone()
    unseen[:, PHASE] = 0
    assert not torch.equal(vae.embed(batch), vae.embed(batch._replace(x=unseen)))
    columns = LevelColumns(SHAPE)
    columns.eval().learnt.fill_(True)
    width = columns(batch.x)[:, 3:7].sum(dim=-1)
    assert torch.equal(width == 1, batch.observed[:, PHASE])
    assert torch.equal(width == 0, ~batch.observed[:, PHASE])


def test_a_missing_level_is_no_level_where_numbers_have_a_range() -> None:
    vae, some = untrained(scaling="range"), batch_of(20)
    nothing = some._replace(x=0 * some.x, observed=torch.zeros_like(some.observed))
    columns = vae.encoder.columns(vae.seen(nothing))
    assert ((columns == 0.5) == (vae.encoder.columns.code == 0)).all()
    assert ((columns == 0.0) == (vae.encoder.columns.code > 0)).all()


def test_hidden_levels_are_missing_to_the_encoder_and_there_for_the_likelihood() -> None:
    vae, batch = untrained(), batch_of(200)
    x = hide_codes(batch.x, vae.decoder.places, 0.3, generator())
    hidden = x < 0
    hidden[:, NUMBERS] = False
    assert_allclose(hidden[:, [VALVE, PHASE]].float().mean(), 0.3, atol=0.06)
    assert torch.equal(vae.embed(batch._replace(x=x)), vae.embed(batch._replace(x=x * ~hidden)))
    p = vae.likelihood(vae.embed(batch), batch.context)
    assert torch.equal(p.log_prob(x)[:, [VALVE, PHASE]], p.log_prob(batch.x)[:, [VALVE, PHASE]])
    assert torch.equal(x[:, NUMBERS], batch.x[:, NUMBERS])


def test_held_out_bound_hides_nothing() -> None:
    vae, batch = untrained(), batch_of(20)
    plain = elbo(vae, batch, generator=generator())
    assert torch.equal(Mixed(hide=0.5).bound(vae, batch, 1.0, generator()), plain)
    assert not torch.equal(Mixed(hide=0.5).bound(vae.train(), batch, 1.0, generator()), plain)


@pytest.mark.parametrize("settings", [{"hide": 1.0}, {"hide": -0.1}, {"noise": 0.0}])
def test_wrong_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is not allowed"):
        Mixed(**settings)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- the scorer


@pytest.mark.parametrize("window", [1, 3])
def test_a_rows_bits_do_not_depend_on_its_place(window: int) -> None:
    few = Training(epochs=1, min_steps=50, max_steps=50, checks=2)
    scorer = fitted(Mixed(), 0, training=few, window=window, smoothing=0.5).scorer
    some = series(valve_rows(2500, 5).values)
    whole = scorer(*some[:2])
    for start in (1, 17, 1023):
        again = scorer(some.rows[start:], torch.arange(len(some.rows) - start))
        behind = slice(scorer.left_context, None)
        assert torch.equal(again[0][behind], whole[0][start:][behind])
        assert torch.equal(again[1][behind], whole[1][start:][behind])


def test_a_missing_level_contributes_nothing_and_leaves_no_nan(quick: Scorer) -> None:
    rows = valve_rows(100, 5).values
    rows[:, PHASE] = np.nan
    score, contributions = quick(*series(rows)[:2])
    assert (contributions[:, PHASE] == 0).all()
    assert score.isfinite().all()


def test_expected_levels_are_codes_of_the_contract(quick: Scorer) -> None:
    rows = valve_rows(500, 5).values
    expected = quick.expected(*series(rows)[:2]).numpy()
    assert set(np.unique(expected[:, VALVE])) <= {0.0, 1.0}
    assert set(np.unique(expected[:, PHASE])) <= {0.0, 1.0, 2.0, 3.0}
    assert (expected[:, VALVE] == rows[:, VALVE]).mean() > 0.95
    assert (expected[:, PHASE] == rows[:, PHASE]).mean() > 0.8


def test_a_level_that_training_never_had_is_improbable_and_moves_nothing_else() -> None:
    train, stop = (valve_rows(n, seed).values for n, seed in ((3000, 0), (600, 1)))
    rare = 0.0  # rinse
    scorer = fit_scorer(
        series(train[train[:, PHASE] != rare]),
        series(stop[stop[:, PHASE] != rare]),
        n_context=0,
        variant=Mixed(),
        levels=LEVELS,
        training=FEW,
        seed=0,
    ).scorer
    rows = stop[stop[:, PHASE] != rare][:100]
    strange, missing = rows.copy(), rows.copy()
    strange[:, PHASE], missing[:, PHASE] = rare, np.nan
    contributions = scorer(*series(strange)[:2])[1]
    usual = scorer(*series(rows)[:2])[1][:, PHASE]
    assert contributions.isfinite().all()
    assert contributions[:, PHASE].min() > 6.0  # probability below 5 %
    assert contributions[:, PHASE].median() > usual.quantile(0.99)
    others = [at for at in range(6) if at != PHASE]
    left = scorer(*series(missing)[:2])[1]
    assert torch.equal(contributions[:, others], left[:, others])


def test_specification_and_state_rebuild_the_scorer(quick: Scorer) -> None:
    again = build_scorer(json.loads(json.dumps(scorer_spec(quick))))
    again.load_state_dict(quick.state_dict())
    some = series(valve_rows(300, 5).values)
    assert torch.equal(again(*some[:2])[0], quick(*some[:2])[0])


@pytest.mark.slow
def test_a_valve_that_disagrees_with_the_flow_is_found_and_named_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = []
    for seed in range(3):
        test = valve_rows(3000, seed + 200, share_faulty=0.1)
        for variant in (Mixed(), Gaussian()):
            score, contributions = fitted(variant, seed).scorer(*series(test.values)[:2])
            named = contributions.argmax(dim=-1).numpy()[test.is_faulty] == VALVE
            table.append((roc_auc_score(test.is_faulty, score), named.mean()))
    with capsys.disabled():
        print("\nAUROC and share of faults that name the valve first, mixed | gaussian")
        for (area, named), (area_2, named_2) in zip(table[::2], table[1::2], strict=True):
            print(f"  {area:.4f} {named:.3f} | {area_2:.4f} {named_2:.3f}")
    assert min(area for area, _ in table[::2]) > 0.99
    assert min(named for _, named in table[::2]) > 0.95


def test_likelihood_takes_sample_axes_on_either_side() -> None:
    vae, batch = untrained(), batch_of(10)
    z = torch.randn(4, 10, vae.noise_dim, generator=generator())
    p = vae.likelihood(z, batch.context)
    assert isinstance(p, MixedLikelihood)
    assert isinstance(p.places, Places)
    assert p.log_prob(batch.x).shape == (4, 10, 6)
    single = vae.likelihood(z[0], batch.context)
    assert single.log_prob(batch.x.expand(4, 10, 6)).shape == (4, 10, 6)


def test_plant_files_name_the_member_that_knows_levels() -> None:
    assert [name for name, kind in VARIANTS.items() if kind.knows_levels] == [MIXED]


@pytest.mark.parametrize("absurd", [-3.0, 0.5, 7.0, 1e300])
def test_codes_that_are_none_leave_the_other_rows_alone(quick: Scorer, absurd: float) -> None:
    rows = valve_rows(100, 5).values
    strange = rows.copy()
    strange[40, VALVE] = absurd
    score, _ = quick(*series(strange)[:2])
    assert score.isfinite().all()
    others = np.arange(100) != 40
    assert torch.equal(score[others], quick(*series(rows)[:2])[0][others])


# -------------------------------------------------------------------------------- the detector


def test_detector_takes_columns_of_codes() -> None:
    rows = valve_rows(1500, 0)
    columns = list(COLUMNS)
    frame = rows.table.assign(phase=rows.values[:, PHASE])[columns]
    detector = VAEDetector("mixed", categorical=["phase", "valve"], training=FEW, random_state=0)
    detector.fit(frame)
    assert detector.scorer_.levels == (0, 3, 5, 0, 0, 0)  # one level more than training has
    strange = frame.assign(phase=9.0)
    contributions = detector.contributions(strange)
    assert np.isfinite(contributions).all()
    assert (contributions[:, PHASE] > detector.contributions(frame)[:, PHASE]).mean() > 0.99
    assert_allclose(detector.score_samples(strange), -contributions.sum(axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"variant": "gaussian"}, r"categorical=\(2,\) needs a variant that knows levels"),
        ({"categorical": (9,)}, "categorical column 9 is not in X; it has columns 0 to 5"),
        ({"categorical": (2, 2)}, "names a column twice"),
        ({"categorical": (0,)}, "its codes are whole numbers from 0 to 999"),
        ({"context": (2,)}, "column 2 of X is categorical and context"),
    ],
)
def test_detector_refuses_what_it_cannot_mean(settings: dict[str, object], says: str) -> None:
    arguments = {"variant": "mixed", "categorical": (2,), "training": FEW, **settings}
    with pytest.raises(InputError, match=says):
        VAEDetector(**arguments).fit(valve_rows(100, 0).values)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------- the steps


def write_plant(folder: Path) -> Path:
    """Rows of which some of the last have a valve that disagrees; one has a text no level names."""
    normal, late = valve_rows(1000, 0).table, valve_rows(400, 1, share_faulty=0.1)
    table = pd.concat([normal, late.table], ignore_index=True)
    time = pd.date_range("2026-01-01", periods=len(table), freq="min", tz="UTC")
    table.insert(0, "time", time.astype(str))
    table["label"] = np.concatenate([np.zeros(1000, int), late.is_faulty.astype(int)])
    table.loc[10, "phase"] = "boil"
    table.loc[11, "phase"] = None
    table["product"] = ["water"] * (len(table) - 1) + ["oil"]
    (folder / "incoming").mkdir()
    table.to_csv(folder / "incoming" / "a.csv", index=False)
    plant = folder / "plant.yml"
    plant.write_text(
        "name: valves\nsource: {path: incoming}\nmodel: {variant: mixed}\n"
        "contract:\n  time: time\n  label: label\n  sensors:\n"
        "  - flow\n  - {name: valve, kind: binary}\n"
        f"  - {{name: phase, kind: categorical, levels: [{', '.join(PHASES)}]}}\n"
        "  - pressure\n  - power\n  - level\n"
        "  - {name: product, kind: categorical, levels: [oil, water]}\n"
        "parts: {train: 0.5, stop: 0.1, calibrate: 0.15, test: 0.25}\n"
        "calibration: {rule: conformal, false_alarm_rate: 0.02}\n"
        "training: {epochs: 60, min_steps: 600, checks: 6}\n"
    )
    return plant


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> PlantConfig:
    plant = read_plant(write_plant(tmp_path_factory.mktemp("valves")))
    run_all(plant)
    return plant


def readings_of(plant: PlantConfig, name: str) -> pd.DataFrame:
    table = Lake(plant.lake, plant.contract).open(name)
    found = pa.Table.from_batches(list(rows(table))).sort_by("time")
    return found.to_pandas(timestamp_as_object=True)


@pytest.mark.slow
def test_steps_name_the_valve_that_disagrees(plant: PlantConfig) -> None:
    readings, verdicts = (readings_of(plant, name) for name in (READINGS, VERDICTS))
    is_faulty = (readings["label"] == 1).to_numpy()
    assert is_faulty.sum() > 25
    flagged = (verdicts["status"] == "anomaly").to_numpy()
    assert flagged[is_faulty].mean() > 0.9
    assert flagged[~is_faulty].mean() < 0.06
    found = verdicts[flagged & is_faulty]
    assert (found["top_sensors"].str[0] == "valve").mean() > 0.9
    named = found[found["top_sensors"].str[0] == "valve"]
    measured = readings.loc[named.index, "valve"]
    assert (named["top_expected"].str[0] == 1 - measured).all()
    assert (named["top_directions"].str[0] == np.where(measured == 1, "high", "low")).all()


@pytest.mark.slow
def test_a_text_that_is_no_level_is_in_the_quarantine(plant: PlantConfig) -> None:
    (refused,) = readings_of(plant, QUARANTINE)[["reason", "detail"]].to_numpy().tolist()
    assert refused == [
        "not_a_level",
        "column 'phase': 'boil' is none of the contract's levels rinse, fill, hold, drain",
    ]


@pytest.mark.slow
def test_a_level_that_never_changed_is_noted_and_a_change_reported(plant: PlantConfig) -> None:
    package = ModelPackage.read(latest_trained(plant) / "package")
    (note,) = (note for note in package.provenance.notes if "product" in note)
    assert note.startswith("sensor 'product' is constant (water) in training")
    changed = readings_of(plant, VERDICTS)["constant_changed"]
    assert [list(names) for names in changed.dropna()] == [["product"]]
    assert changed.notna().to_numpy().nonzero()[0].tolist() == [len(changed) - 1]


@pytest.mark.slow
def test_package_and_mlflow_judge_texts_and_say_what_they_expected(plant: PlantConfig) -> None:
    folder = latest_trained(plant) / "package"
    package = ModelPackage.read(folder)
    frame = readings_of(plant, READINGS)[["time", "asset", *COLUMNS, "product"]]
    frame["time"] = pd.to_datetime(frame["time"]).dt.tz_localize(None)
    model = PackageModel()
    model.load_context(PythonModelContext({"package": str(folder)}, {}))
    told = model.predict(None, frame)
    verdicts = readings_of(plant, VERDICTS)
    assert told["score"].tolist() == verdicts["score"].tolist()
    wrong = frame[frame["phase"] == "fill"].head(50).assign(phase="hold")
    wrong.loc[wrong.index[0], "phase"] = "boil"
    judged = package.score(pa.Table.from_pandas(wrong, preserve_index=False)).to_pandas()
    assert judged["status"][0] == "unseen_mode"
    assert judged["reason"][0] == (
        "sensor 'phase' has level 'boil'; the model knows rinse, fill, hold, drain"
    )
    anomalies = judged[judged["status"] == "anomaly"]
    assert len(anomalies) > 30
    tops = anomalies[["top_sensors", "top_directions", "top_expected"]]
    said = [dict(zip(a, zip(b, c, strict=True), strict=True)) for a, b, c in tops.to_numpy()]
    phases = [row["phase"] for row in said if "phase" in row]
    assert len(phases) > 20
    assert {direction for direction, _ in phases} <= {f"not {m}" for m in PHASES} | {"as expected"}
    for direction, expected in phases:
        level = PHASES[int(expected)]
        assert direction == ("as expected" if level == "hold" else f"not {level}")
