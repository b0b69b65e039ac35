"""The loop learns, stops in time, and a killed one ends where an undisturbed one does."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import naive
import numpy as np
import pytest
import torch
from linear_plant import NOISE, loading, normal_rows
from numpy.testing import assert_allclose

from vae_anomaly.config import Training
from vae_anomaly.errors import TrainingError
from vae_anomaly.models.doctor import LOWER, MOST_RETURNS
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.standardize import Batch, Windows, fit_standardizer
from vae_anomaly.models.training import (
    Bound,
    Check,
    History,
    one_cycle,
    one_thread,
    seeded,
    train,
)
from vae_anomaly.models.vae import VAE
from vae_anomaly.models.variants import Gaussian

SHORT = Training(epochs=1, min_steps=60, max_steps=60, checks=6, batch_size=64)


class PulledPlugError(Exception):
    """Someone pulled the plug."""


@lru_cache
def parts() -> tuple[Batch, Batch]:
    rows = torch.from_numpy(normal_rows(700, 0))
    batch = fit_standardizer(rows, 0)(rows)
    return Batch(*(part[:500] for part in batch)), Batch(*(part[500:] for part in batch))


def fresh(variant: Gaussian | None = None) -> VAE:
    with seeded(0):
        return (variant or Gaussian(hidden=(8,))).build(Shape(6))


def run(module: VAE, training: Training = SHORT, **options: object) -> History:
    batch, held_out = parts()
    options = {"held_out": held_out, "seed": 0} | options
    windows = Windows.whole(batch)
    return train(module, Gaussian().bound, windows, training, **options)  # type: ignore[arg-type]


def same(one: VAE, other: VAE) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@lru_cache
def undisturbed() -> tuple[VAE, History]:
    module = fresh()
    return module, run(module)


def timeless(history: History) -> History:
    checks = tuple(replace(check, rows_per_s=0.0, seconds=0.0) for check in history.checks)
    return replace(history, checks=checks)


# ------------------------------------------------------------------------------------- learning


@pytest.mark.slow
def test_linear_model_finds_the_likelihood_of_factor_analysis() -> None:
    """The best linear VAE is factor analysis (Lucas et al. 2019): its density is the true one."""
    rows = torch.from_numpy(normal_rows(4000, 0))
    standardizer = fit_standardizer(rows, 0)
    batch, variant = standardizer(rows), Gaussian(hidden=(), latent_dim=2)
    module = fresh(variant)
    training = Training(min_steps=2000, max_steps=2000, learning_rate=2e-2)
    fresh_rows = torch.from_numpy(normal_rows(500, 1))
    held_out = standardizer(fresh_rows)
    train(module, variant.bound, Windows.whole(batch), training, held_out=held_out, seed=0)
    W, mean = (p.detach().double().numpy() for p in module.decoder.net.layers[0].parameters())
    sigma = module.decoder.sigma.detach().double().numpy()
    learnt = [naive.factor_analysis(row, W, mean, sigma) for row in held_out.x.double().numpy()]
    scale = standardizer.scale.numpy()
    unit = 10.0 ** (np.arange(6) - 2)
    truth = [
        naive.factor_analysis(row, (loading().T * unit).T, np.full(6, 50.0), NOISE * unit)
        + np.log(scale).sum()
        for row in fresh_rows.numpy()
    ]
    assert_allclose(np.mean(learnt), np.mean(truth), atol=0.05)


def test_history_says_what_happened() -> None:
    _, history = undisturbed()
    assert [check.step for check in history.checks] == [10, 20, 30, 40, 50, 60]
    assert all(check.n_steps == 60 for check in history.checks)
    assert history.checks[-1].epoch == 60 / 8  # 500 rows in batches of at most 64
    assert history.checks[-1].held_out_bound > history.checks[0].held_out_bound + 0.2
    assert history.best.held_out_bound == max(c.held_out_bound for c in history.checks)
    assert not history.stopped_early
    assert all(check.rows_per_s > 0 for check in history.checks)
    seconds = [check.seconds for check in history.checks]
    assert seconds == sorted(seconds)
    assert_allclose(history.checks[-1].learning_rate, SHORT.learning_rate * 0.02)


@pytest.mark.parametrize(
    ("settings", "n_steps"),
    [
        ({"epochs": 3, "min_steps": 1, "max_steps": 10_000}, 24),
        ({"epochs": 1, "min_steps": 11, "max_steps": 10_000}, 11),
        ({"epochs": 100, "min_steps": 1, "max_steps": 13}, 13),
        ({"epochs": 1, "min_steps": 1, "max_steps": 1}, 1),
    ],
)
def test_steps_follow_the_rows_within_limits(settings: dict[str, int], n_steps: int) -> None:
    history = run(fresh(), Training(batch_size=64, checks=4, patience=4, **settings))
    assert history.checks[-1].step == n_steps
    assert len(history.checks) == min(4, n_steps)
    assert len({check.step for check in history.checks}) == len(history.checks)


def test_every_row_is_seen_once_an_epoch() -> None:
    batch, held_out = parts()
    numbered = batch._replace(label=torch.arange(500))
    seen: list[torch.Tensor] = []

    def bound(
        module: VAE, part: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        if module.training:
            seen.append(part.label)
        return Gaussian().bound(module, part, progress, generator)

    training = Training(epochs=2, min_steps=1, batch_size=64, checks=1)
    train(fresh(), bound, Windows.whole(numbered), training, held_out=held_out, seed=0)
    assert {len(part) for part in seen} == {62, 63}
    first, second = torch.cat(seen[:8]), torch.cat(seen[8:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(500))
    assert not torch.equal(first, second)


def test_only_the_rows_that_are_meant_are_trained_on() -> None:
    batch, _ = parts()
    spoilt = batch._replace(x=torch.where(torch.arange(500)[:, None] % 2 == 0, batch.x, torch.nan))
    even = Windows(spoilt, torch.zeros(500, dtype=torch.int64), torch.arange(0, 500, 2), 1)
    module = fresh()
    train(module, Gaussian().bound, even, SHORT, held_out=parts()[1], seed=0)
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_stops_early_and_keeps_the_best_weights() -> None:
    """Twenty rows are soon learnt by heart: the held-out bound falls again."""
    batch, held_out = parts()
    few = Windows(batch, torch.zeros(500, dtype=torch.int64), torch.arange(20), 1)
    module = fresh(Gaussian())
    training = Training(min_steps=5000, max_steps=5000, checks=100, patience=3)
    history = train(module, Gaussian().bound, few, training, held_out=held_out, seed=0)
    assert history.stopped_early
    assert history.checks[-4].step == history.best_step
    assert not module.training
    noise = torch.Generator().manual_seed(0)
    again = Gaussian().bound(module, held_out, 1.0, noise).double().mean()
    assert_allclose(again.detach(), history.best.held_out_bound, rtol=1e-6)


def test_checks_before_the_objective_has_settled_do_not_stop_a_training() -> None:
    """A bound that falls at first, as in a warm-up, and then cannot rise above its start."""
    batch, held_out = parts()

    def bound(
        module: VAE, part: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        nats = Gaussian().bound(module, part, progress, generator)
        return nats if module.training else nats.detach() * 0 - float(module.decoder.sigma.sum())

    training = SHORT.model_copy(update={"patience": 1})
    steps = {}
    for settled in (0.0, 0.5):
        module = fresh()
        with torch.no_grad():
            module.decoder.log_sigma.fill_(-3.0)  # so that it rises from the first step on
        history = train(
            module, bound, Windows.whole(batch), training,
            held_out=held_out, seed=0, settled=settled,
        )  # fmt: skip
        assert (history.best_step, history.stopped_early) == (10, True)
        steps[settled] = history.checks[-1].step
    assert steps == {0.0: 20, 0.5: 40}


def test_same_seed_same_weights_whatever_the_number_of_threads() -> None:
    module, history = undisturbed()
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = fresh()
        assert timeless(run(again)) == timeless(history)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert same(again, module)
    run(other := fresh(), seed=1)
    assert not same(other, module)


def test_trainings_side_by_side_do_not_disturb_one_another() -> None:
    module, _ = undisturbed()

    def train_one(seed: int) -> VAE:
        mine = fresh()
        run(mine, seed=seed)
        return mine

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(train_one, [0, 1, 0, 1]))
    assert same(found[0], module)
    assert same(found[2], module)
    assert same(found[1], found[3])


def test_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(fresh())
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(3), expected)


def test_one_cycle_rises_and_falls() -> None:
    rates = [one_cycle(step / 1000) for step in range(1001)]
    peak = int(np.argmax(rates))
    assert max(rates) == 1.0
    assert min(rates) == pytest.approx(0.02)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_gradients_are_clipped() -> None:
    norms: list[torch.Tensor] = []

    def bound(
        module: VAE, part: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        if module.training and progress:
            gradients = [parameter.grad for parameter in module.parameters()]
            norms.append(torch.cat([g.flatten() for g in gradients if g is not None]).norm())
        return 1e6 * Gaussian().bound(module, part, progress, generator)

    batch, held_out = parts()
    training = SHORT.model_copy(update={"clip_norm": 0.5})
    train(fresh(), bound, Windows.whole(batch), training, held_out=held_out, seed=0)
    assert_allclose(norms[:9], 0.5, rtol=1e-3)  # those of the steps before the first check


@pytest.mark.parametrize("where", ["training", "held-out"])
def test_infinite_bound_is_an_error_that_says_where(where: str) -> None:
    def bound(
        module: VAE, part: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        nats = Gaussian().bound(module, part, progress, generator)
        return nats * (torch.nan if module.training == (where == "training") else 1.0)

    batch, held_out = parts()
    with pytest.raises(TrainingError, match=r"at step 10 of 60; lower training\.learning_rate"):
        train(fresh(), bound, Windows.whole(batch), SHORT, held_out=held_out, seed=0)


# ---------------------------------------------------------------------------------- the doctor

#: Far too high for 60 steps: the bound explodes more than once.
HIGH = SHORT.model_copy(update={"learning_rate": 300.0})


def spoilt_once(start: float, stop: float) -> Bound:
    """A bound that is not a number at some steps, the first time that training comes by."""
    seen: set[float] = set()

    def bound(
        module: VAE, part: Batch, progress: float, generator: torch.Generator
    ) -> torch.Tensor:
        nats = Gaussian().bound(module, part, progress, generator)
        if not module.training or not start <= progress < stop or progress in seen:
            return nats
        seen.add(progress)
        return nats * torch.nan

    return bound


def train_with(bound: Bound, training: Training = SHORT, **options: object) -> tuple[VAE, History]:
    batch, held_out = parts()
    module = fresh()
    options = {"held_out": held_out, "seed": 0} | options
    return module, train(module, bound, Windows.whole(batch), training, **options)  # type: ignore[arg-type]


def test_trouble_at_the_start_is_as_a_lower_rate_from_the_start() -> None:
    low = SHORT.model_copy(update={"learning_rate": SHORT.learning_rate * LOWER})
    expected, undisturbed_history = train_with(Gaussian().bound, low)
    found, history = train_with(spoilt_once(0.0, 1 / 60))
    assert same(found, expected)
    assert history.events[0].step == 10
    assert "nan in training" in history.events[0].seen
    assert history.events[0].done == "back to step 0, and on at 0.1 of the learning rate"
    assert timeless(replace(history, events=())) == timeless(undisturbed_history)


def test_trouble_on_the_way_leaves_the_good_checks_and_the_moments() -> None:
    """Steps 21 to 30 fail: the checks before stay, those after are of a tenth of the rate."""
    _, expected = undisturbed()
    module, history = train_with(spoilt_once(25 / 60, 27 / 60))
    assert [check.step for check in history.checks] == [10, 20, 30, 40, 50, 60]
    assert timeless(history).checks[:2] == timeless(expected).checks[:2]
    rates = [check.learning_rate for check in history.checks]
    assert_allclose(rates[2:], [LOWER * check.learning_rate for check in expected.checks[2:]])
    assert history.checks[-1].held_out_bound > history.checks[1].held_out_bound
    assert [event.step for event in history.events] == [30]
    assert "back to step 20" in history.events[0].done
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    seconds = [check.seconds for check in history.checks]
    assert seconds == sorted(seconds)


def test_a_rate_that_is_far_too_high_is_lowered_until_it_learns() -> None:
    module, history = train_with(Gaussian().bound, HIGH)
    assert len(history.events) >= 2
    assert history.best.held_out_bound > -8.6  # untrained: -8.9; exploded: -5e5
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_the_doctor_says_what_it_does_at_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _, history = train_with(spoilt_once(0.0, 1 / 60))
    assert [record.message for record in caplog.records] == [f"training, {history.events[0]}"]


def test_giving_up_says_what_was_tried() -> None:
    with pytest.raises(TrainingError) as failed:
        train_with(Gaussian().bound, SHORT.model_copy(update={"learning_rate": 1e20}))
    assert str(failed.value).count("Tried at step 10") == MOST_RETURNS
    assert "lower training.learning_rate" in str(failed.value)


@pytest.mark.parametrize("rows", ["training", "held-out"])
def test_absurd_rows_are_no_explosion(rows: str) -> None:
    """A few values of 1e6 carry the mean away, and not the medians."""
    batch, held_out = parts()
    spoilt = batch if rows == "training" else held_out
    x = spoilt.x.clone()
    x[::97, 0] = 1e6
    spoilt = spoilt._replace(x=x)
    batch, held_out = (spoilt, held_out) if rows == "training" else (batch, spoilt)
    history = train(fresh(), Gaussian().bound, Windows.whole(batch), SHORT,
                    held_out=held_out, seed=0)  # fmt: skip
    assert history.events == ()
    assert len(history.checks) == 6


@pytest.mark.slow
def test_rows_learnt_by_heart_are_no_explosion() -> None:
    batch, held_out = parts()
    few = Windows(batch, torch.zeros(500, dtype=torch.int64), torch.arange(10), 1)
    training = Training(min_steps=3000, max_steps=3000, checks=30, patience=30)
    history = train(fresh(Gaussian()), Gaussian().bound, few, training, held_out=held_out, seed=0)
    assert history.events == ()
    assert history.checks[-1].held_out_bound < history.best.held_out_bound - 10


@pytest.mark.parametrize("calls", [1, 8, 14, 21, 30, 44, 61, 85])
def test_run_that_is_cut_anywhere_is_treated_alike(calls: int, tmp_path: Path) -> None:
    """Cut at a call of the bound, before, amid and after its explosions, and then once more."""
    expected, history = train_with(Gaussian().bound, HIGH)
    for _ in range(2):
        left = iter(range(calls))

        def bound(
            module: VAE,
            part: Batch,
            progress: float,
            generator: torch.Generator,
            left: Iterator[int] = left,
        ) -> torch.Tensor:
            if next(left, None) is None:
                raise PulledPlugError
            return Gaussian().bound(module, part, progress, generator)

        with contextlib.suppress(PulledPlugError):
            train_with(bound, HIGH, checkpoint=tmp_path / "run")
    found, resumed = train_with(Gaussian().bound, HIGH, checkpoint=tmp_path / "run")
    assert same(found, expected)
    assert timeless(resumed) == timeless(history)


# ----------------------------------------------------------------------------- kill and go on


@pytest.mark.parametrize("stops", [(10,), (30,), (60,), (20, 40), (10, 20, 30, 40, 50, 60)])
def test_interrupted_run_ends_with_the_same_weights(stops: tuple[int, ...], tmp_path: Path) -> None:
    """`on_check` comes before the checkpoint: what followed the last one is done again."""
    reported: list[int] = []
    for stop in stops:

        def pull_the_plug(check: Check, stop: int = stop) -> None:
            reported.append(check.step)
            if check.step == stop:
                raise PulledPlugError

        with pytest.raises(PulledPlugError):
            run(fresh(), checkpoint=tmp_path / "run", on_check=pull_the_plug)
    resumed = fresh()
    history = run(
        resumed, checkpoint=tmp_path / "run", on_check=lambda check: reported.append(check.step)
    )
    module, expected = undisturbed()
    assert same(resumed, module)
    assert timeless(history) == timeless(expected)
    assert set(reported) == {10, 20, 30, 40, 50, 60}


def test_finished_run_is_not_repeated(tmp_path: Path) -> None:
    first, second = fresh(), fresh()
    history = run(first, checkpoint=tmp_path / "run")
    again: list[Check] = []
    assert run(second, checkpoint=tmp_path / "run", on_check=again.append) == history
    assert same(first, second)
    assert again == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_training import fresh, run
run(fresh(), checkpoint=Path({checkpoint!r}), on_check=lambda check: print(check.step, flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.001, 0.003, 0.01])
def test_killed_process_is_gone_on_with(delay: float, tmp_path: Path) -> None:
    """SIGKILL a moment after the second check: before, during or after it is written down."""
    checkpoint = tmp_path / "run"
    code = CHILD.format(tests=str(Path(__file__).parent), checkpoint=str(checkpoint))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    assert [child.stdout.readline().strip() for _ in range(2)] == ["10", "20"]
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode in (-signal.SIGKILL, 0)
    steps: list[int] = []
    resumed = fresh()
    history = run(resumed, checkpoint=checkpoint, on_check=lambda check: steps.append(check.step))
    module, expected = undisturbed()
    assert same(resumed, module)
    assert timeless(history) == timeless(expected)
    assert 10 not in steps


@pytest.mark.parametrize("change", ["seed", "settings", "rows", "network"])
def test_checkpoint_of_another_run_is_refused(change: str, tmp_path: Path) -> None:
    run(fresh(), checkpoint=tmp_path / "run")
    module, training, seed = fresh(), SHORT, 0
    batch, held_out = parts()
    if change == "seed":
        seed = 1
    if change == "settings":
        training = SHORT.model_copy(update={"learning_rate": 1e-3})
    if change == "rows":
        batch = batch._replace(x=batch.x + 1)
    if change == "network":
        module = fresh(Gaussian(hidden=(9,)))
    with pytest.raises(TrainingError, match="belongs to a training with other"):
        train(
            module,
            Gaussian().bound,
            Windows.whole(batch),
            training,
            held_out=held_out,
            seed=seed,
            checkpoint=tmp_path / "run",
        )


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(fresh(), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TrainingError, match=re.escape(f"{path} cannot be read; delete it")):
        run(fresh(), checkpoint=path)
