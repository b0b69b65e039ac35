"""The one training loop: it maximises a bound, and knows nothing of the model.

AdamW under one cycle of the learning rate, early stopping on the bound of held-out rows with the
best weights restored, and checkpoints from which a killed run goes on to the same weights, bit for
bit. Every random number comes from a generator of its own.
"""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.config import Training
from vae_anomaly.errors import TrainingError
from vae_anomaly.models.standardize import Batch, Windows, split
from vae_anomaly.models.vae import Model

__all__ = ["Bound", "Check", "History", "one_thread", "seeded", "train"]

#: What is maximised: module, batch, share of the steps done, generator -> (*, n) nats.
Bound = Callable[[Model, Batch, float, torch.Generator], Tensor]

#: One cycle (Smith & Topin 2019, Super-Convergence): share of the steps that the rate rises, and
#: where it starts and ends. A rise of 0.3 gave the same bounds on 14 data sets.
RISE, LOWEST = 0.1, 0.02

#: Batches that are gathered at once: one copy for many steps, and little memory.
GATHER = 64

#: Rows to a block when the held-out bound is evaluated.
HELD_OUT_BLOCK = 4096

#: Rows whose bytes tell a checkpoint of these data from another's.
FINGERPRINT_ROWS = 1024


@dataclass(frozen=True)
class Check:
    """One look at the held-out rows.

    Attributes
    ----------
    step, n_steps : int
        Steps done, and of how many.
    epoch : float
        Passes over the training rows.
    bound : float
        Mean of what was maximised since the last check, in nats a row.
    held_out_bound : float
        Mean bound of the held-out rows, in nats a row.
    learning_rate : float
        Of the last step.
    rows_per_s : float
        Rows trained on in a second since the last check.
    seconds : float
        Time spent since the start, the times before interruptions included.
    """

    step: int
    n_steps: int
    epoch: float
    bound: float
    held_out_bound: float
    learning_rate: float
    rows_per_s: float
    seconds: float


@dataclass(frozen=True)
class History:
    """How a training went: its checks, the step whose weights were kept, and why it ended."""

    checks: tuple[Check, ...]
    best_step: int
    stopped_early: bool

    @property
    def best(self) -> Check:
        """The check whose weights were kept."""
        return next(check for check in self.checks if check.step == self.best_step)


def train(
    module: Model,
    bound: Bound,
    windows: Windows,
    training: Training,
    *,
    held_out: Batch,
    seed: int,
    checkpoint: Path | None = None,
    on_check: Callable[[Check], None] = lambda check: None,
) -> History:
    """Maximise the mean bound over the rows, and leave the weights of the best check.

    The same seed gives the same weights, and a run that was killed and is called again with its
    checkpoint ends with the weights of an undisturbed one, bit for bit. torch's global generator
    is never touched.

    Parameters
    ----------
    module : Model
        Changed in place; left in evaluation mode.
    bound : callable
        Module, batch, share of the steps done and generator -> (n,) nats.
    windows : Windows
        The rows to train on.
    training : Training
        Settings of the loop.
    held_out : Batch
        Rows that decide when to stop.
    seed : int
        Of the order of the rows, and of the noise.
    checkpoint : Path, optional
        File that is written at each check, and gone on from if it is there. It stays when the
        training is done: a call with it then trains no step.
    on_check : callable, optional
        Called at each check, before its checkpoint is written: a check may be reported again
        after a kill, and none is left out.

    Returns
    -------
    History

    Raises
    ------
    TrainingError
        The bound is no longer finite, or the checkpoint belongs to another run.
    """
    n_rows = len(windows.rows)
    plan = _Plan.of(training, n_rows)
    run = _Run.begin(module, training, seed)
    key = _fingerprint(module, windows, training, seed) if checkpoint else ""
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint, key)
    batches = _batches(windows, plan, seed=seed, first=run.step)
    while not (run.step == plan.n_steps or run.is_stale(training.patience)):
        started, first = time.perf_counter(), run.step
        last = plan.next_check(run.step)
        with one_thread():
            total = _steps(run, bound, batches, plan, training, last)
            held_out_bound = _held_out(module, bound, held_out, seed)
        seconds = time.perf_counter() - started
        check = Check(
            step=last,
            n_steps=plan.n_steps,
            epoch=last / plan.n_batches,
            bound=total / (last - first),
            held_out_bound=held_out_bound,
            learning_rate=training.learning_rate * one_cycle(last / plan.n_steps),
            rows_per_s=(last - first) * n_rows / plan.n_batches / seconds,
            seconds=seconds + (run.checks[-1].seconds if run.checks else 0.0),
        )
        _refuse_infinite(check)
        run.note(check)
        on_check(check)
        if checkpoint is not None:
            run.save(checkpoint, key)
    module.load_state_dict(run.best)
    module.eval()
    return History(tuple(run.checks), run.best_step, run.step < plan.n_steps)


def one_cycle(progress: float) -> float:
    """Learning rate at a share of the steps, as a share of the highest.

    Examples
    --------
    >>> [round(one_cycle(progress), 3) for progress in (0, 0.05, 0.1, 0.55, 1)]
    [0.02, 0.51, 1.0, 0.51, 0.02]
    """
    if progress < RISE:
        return LOWEST + (1 - LOWEST) * progress / RISE
    fallen = (progress - RISE) / (1 - RISE)
    return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * fallen)) / 2


_GLOBAL_GENERATOR = threading.Lock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's global generator from a seed, put back afterwards; one thread at a time.

    Layers draw their first weights from it.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with seeded(0):
    ...     layer = torch.nn.Linear(2, 2)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread inside each of torch's operations, and what it was afterwards.

    The networks are small: on a busy machine threads that wait for each other made training 50
    times slower, and the last bits would depend on their number. Parallel work is for callers.

    Examples
    --------
    >>> with one_thread():
    ...     torch.get_num_threads()
    1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ------------------------------------------------------------------------------------------ steps


@dataclass(frozen=True)
class _Plan:
    """How many steps, in batches of which number an epoch, and when to look."""

    n_batches: int
    n_steps: int
    n_checks: int

    @classmethod
    def of(cls, training: Training, n_rows: int) -> _Plan:
        n_batches = math.ceil(n_rows / training.batch_size)
        wanted = training.epochs * n_batches
        n_steps = min(max(wanted, training.min_steps), training.max_steps)
        return cls(n_batches, n_steps, min(training.checks, n_steps))

    def next_check(self, step: int) -> int:
        """The first step after this one at which the held-out rows are looked at."""
        done = (step + 1) * self.n_checks // self.n_steps
        ahead = (self.n_steps * number // self.n_checks for number in count(done))
        return next(check for check in ahead if check > step)


def _steps(
    run: _Run, bound: Bound, batches: Iterator[Batch], plan: _Plan, training: Training, last: int
) -> float:
    """Take the steps up to `last`; the sum of their mean bounds."""
    module, group = run.module.train(), run.optimizer.param_groups[0]
    total = torch.zeros(())
    while run.step < last:
        progress = run.step / plan.n_steps
        group["lr"] = training.learning_rate * one_cycle(progress)
        part = next(batches)
        nats = bound(module, part, progress, run.noise).mean()
        run.optimizer.zero_grad()
        torch.autograd.backward(
            nats / -part.x.shape[-1]
        )  # a nat a feature: the clip norm fits any width
        torch.nn.utils.clip_grad_norm_(module.parameters(), training.clip_norm)
        run.optimizer.step()
        total += nats.detach()
        run.step += 1
    return float(total)


def _batches(windows: Windows, plan: _Plan, *, seed: int, first: int) -> Iterator[Batch]:
    """Batches in random order from step `first` on, epoch after epoch; equal sizes but for one."""
    for epoch in count(first // plan.n_batches):
        stream = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(stream[0]) >> 1)
        order = torch.randperm(len(windows.rows), generator=generator).tensor_split(plan.n_batches)
        start = first - epoch * plan.n_batches
        for at in range(max(start, 0), plan.n_batches, GATHER):
            parts = order[at : at + GATHER]
            gathered = windows.gather(torch.cat(parts))
            yield from split(gathered, [len(part) for part in parts])


@torch.no_grad()
def _held_out(module: Model, bound: Bound, held_out: Batch, seed: int) -> float:
    """Mean bound of the held-out rows with the noise of every check, in nats a row."""
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    for block in split(held_out, HELD_OUT_BLOCK):
        total += float(bound(module, block, 1.0, generator).double().sum())
    return total / len(held_out.x)


def _refuse_infinite(check: Check) -> None:
    if not (math.isfinite(check.bound) and math.isfinite(check.held_out_bound)):
        raise TrainingError(
            f"the bound is {check.bound:g} in training and {check.held_out_bound:g} on held-out "
            f"rows at step {check.step} of {check.n_steps}; lower training.learning_rate "
            f"(now at {check.learning_rate:g}), or look for absurd values in the training rows"
        )


# ------------------------------------------------------------------------------------ checkpoints


@dataclass
class _Run:
    """All that a training changes as it goes."""

    module: Model
    optimizer: torch.optim.Optimizer
    noise: torch.Generator
    step: int = 0
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def begin(cls, module: Model, training: Training, seed: int) -> _Run:
        optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=training.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=training.weight_decay,
            fused=True,
        )
        return cls(module, optimizer, torch.Generator().manual_seed(seed))

    def note(self, check: Check) -> None:
        """Record a check, and keep the weights if it is the best one."""
        best = max((c.held_out_bound for c in self.checks), default=-math.inf)
        self.checks.append(check)
        if check.held_out_bound > best:
            self.best_step = check.step
            self.best = {k: v.detach().clone() for k, v in self.module.state_dict().items()}

    def is_stale(self, patience: int) -> bool:
        """Whether the last `patience` checks brought no better bound."""
        since = [check for check in self.checks if check.step > self.best_step]
        return len(since) >= patience

    def save(self, path: Path, key: str) -> None:
        """Write everything, so that a kill leaves the old checkpoint or the new one, and whole."""
        state = {
            "key": key,
            "step": self.step,
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "noise": self.noise.get_state(),
            "best_step": self.best_step,
            "best": self.best,
            "checks": [asdict(check) for check in self.checks],
        }
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        with draft.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)

    def load(self, path: Path, key: str) -> None:
        """Go on from a checkpoint of the same run."""
        try:
            state = torch.load(path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingError(f"checkpoint {path} cannot be read; delete it: {error}") from error
        if state["key"] != key:
            raise TrainingError(
                f"checkpoint {path} belongs to a training with other rows, settings or seed; "
                "delete it, or name another file"
            )
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.noise.set_state(state["noise"])
        self.step, self.best_step, self.best = state["step"], state["best_step"], state["best"]
        self.checks = [Check(**check) for check in state["checks"]]


def _fingerprint(module: Model, windows: Windows, training: Training, seed: int) -> str:
    """Hash of what decides the weights: rows (a sample of them), settings, seed, first weights."""
    settings = f"{training.model_dump_json()} {seed} {len(windows.rows)}"
    digest = hashlib.sha256(settings.encode())
    for tensor in (*windows.spread(FINGERPRINT_ROWS), *module.state_dict().values()):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
