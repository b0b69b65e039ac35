"""The one training loop: it maximises a bound, and knows nothing of the model.

AdamW under one cycle of the learning rate, early stopping on the bound of held-out rows with the
best weights restored, and checkpoints from which a killed run goes on to the same weights, bit for
bit. Where the bound explodes, the doctor takes the training back to the last good check, and on at
a lower rate. Every random number comes from a generator of its own.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vae_anomaly.config import Training
from vae_anomaly.errors import TrainingError
from vae_anomaly.models.doctor import LOWER, MOST_RETURNS, Event, Typical, trouble
from vae_anomaly.models.standardize import Batch, Windows, spaced, split
from vae_anomaly.models.vae import Model

__all__ = ["Bound", "Check", "History", "held_out_bounds", "one_thread", "seeded", "train"]

logger = logging.getLogger(__name__)

#: What is maximised: module, batch, share of the steps done, generator -> (*, n) nats.
Bound = Callable[[Model, Batch, float, torch.Generator], Tensor]

#: One cycle (Smith & Topin 2019, Super-Convergence): share of the steps that the rate rises, and
#: where it starts and ends. A rise of 0.3 gave the same bounds on 14 data sets.
RISE, LOWEST = 0.1, 0.02

#: Batches that are gathered at once: one copy for many steps, and little memory.
GATHER = 64

#: Rows to a block when the held-out bound is evaluated.
HELD_OUT_BLOCK = 4096

#: Held-out rows on which a model's own figures are taken.
FIGURE_ROWS = 1024

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
    figures : dict of str to float
        What the model says of itself on held-out rows, such as its active units.
    attempt : int
        Above 1 where the doctor has it trained again.
    """

    step: int
    n_steps: int
    epoch: float
    bound: float
    held_out_bound: float
    learning_rate: float
    rows_per_s: float
    seconds: float
    figures: dict[str, float] = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True)
class History:
    """How a training went.

    Attributes
    ----------
    checks : tuple of Check
    best_step : int
        The step whose weights were kept.
    stopped_early : bool
        The held-out bound rose no more.
    events : tuple of Event
        What the doctor saw and did.
    others : tuple of Check
        Checks of the attempts that were not kept.
    """

    checks: tuple[Check, ...]
    best_step: int
    stopped_early: bool
    events: tuple[Event, ...] = ()
    others: tuple[Check, ...] = ()

    @property
    def attempt(self) -> int:
        """Number of the attempt whose weights were kept."""
        return self.checks[0].attempt

    @property
    def best(self) -> Check:
        """The check whose weights were kept."""
        return next(check for check in self.checks if check.step == self.best_step)


def train(  # noqa: PLR0913 (half of it says how to go on: seed, attempt, checkpoint, on_check)
    module: Model,
    bound: Bound,
    windows: Windows,
    training: Training,
    *,
    held_out: Batch,
    seed: int,
    settled: float = 0.0,
    attempt: int = 1,
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
    settled : float
        Share of the steps from which on the bound stays as it is, such as the end of a warm-up;
        checks before do not count as checks without a better bound.
    attempt : int
        Its number, for the record.
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
        The bound exploded or was no longer finite, at lower learning rates too, or the checkpoint
        belongs to another run.
    """
    task = _Task(bound, windows, training, held_out, seed, settled, attempt)
    run = _Run.begin(module, training, seed)
    key = _fingerprint(module, windows, training, seed) if checkpoint else ""
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint, key)
    else:
        run.typical = task.typical_at_first(module)
    batches = task.batches(run.step)
    while not (run.step == task.plan.n_steps or task.is_stale(run)):
        check, seen = _until_check(run, task, batches)
        if seen:
            run.step_back(check, seen)
            batches = task.batches(run.step)
        else:
            run.note(check)
            on_check(check)
        if checkpoint is not None:
            run.save(checkpoint, key)
    module.load_state_dict(run.best)
    module.eval()
    is_early = run.step < task.plan.n_steps
    return History(tuple(run.checks), run.best_step, is_early, tuple(run.events))


@torch.no_grad()
def held_out_bounds(module: Model, bound: Bound, held_out: Batch, seed: int) -> Tensor:
    """Bound of each held-out row with the noise of every check, (n,) nats; float64."""
    module.eval()
    generator = torch.Generator().manual_seed(seed)
    blocks = split(held_out, HELD_OUT_BLOCK)
    return torch.cat([bound(module, block, 1.0, generator).double() for block in blocks])


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


@dataclass(frozen=True)
class _Task:
    """What is to be maximised, on which rows, and how."""

    bound: Bound
    windows: Windows
    training: Training
    held_out: Batch
    seed: int
    settled: float
    attempt: int

    @property
    def plan(self) -> _Plan:
        return _Plan.of(self.training, len(self.windows.rows))

    def is_stale(self, run: _Run) -> bool:
        """Whether the last checks, as many as are waited for, brought no better bound."""
        since = max(run.best_step, self.settled * self.plan.n_steps)
        return sum(check.step > since for check in run.checks) >= self.training.patience

    def batches(self, first: int) -> Iterator[Batch]:
        """Batches in random order from step `first` on, epoch after epoch; nearly equal sizes."""
        n_batches = self.plan.n_batches
        for epoch in count(first // n_batches):
            stream = np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(stream[0]) >> 1)
            order = torch.randperm(len(self.windows.rows), generator=generator)
            pieces, start = order.tensor_split(n_batches), first - epoch * n_batches
            for at in range(max(start, 0), n_batches, GATHER):
                parts = pieces[at : at + GATHER]
                gathered = self.windows.gather(torch.cat(parts))
                yield from split(gathered, [len(part) for part in parts])

    def typical_at_first(self, module: Model) -> Typical:
        """Of weights that nothing has been done to, so that the first steps can explode too."""
        with one_thread():
            nats = held_out_bounds(module, self.bound, self.held_out, self.seed)
        typical = Typical.of(nats, nats, self.held_out.x.shape[-1])
        return Typical(*(value if math.isfinite(value) else -math.inf for value in typical))


def _until_check(run: _Run, task: _Task, batches: Iterator[Batch]) -> tuple[Check, str]:
    """Train up to the next check; what is found there, and what is wrong with it, if anything."""
    started, first, plan = time.perf_counter(), run.step, task.plan
    with one_thread():
        nats = _steps(run, task, batches, plan.next_check(first))
        held_out = held_out_bounds(run.module, task.bound, task.held_out, task.seed)
        figures = _figures(run.module, task.held_out)
    seconds = time.perf_counter() - started
    run.seconds += seconds
    n_steps = run.step - first
    check = Check(
        step=run.step,
        n_steps=plan.n_steps,
        epoch=run.step / plan.n_batches,
        bound=float(nats.sum()) / n_steps,
        held_out_bound=float(held_out.sum()) / len(held_out),
        learning_rate=run.rate * task.training.learning_rate * one_cycle(run.step / plan.n_steps),
        rows_per_s=n_steps * len(task.windows.rows) / plan.n_batches / seconds,
        seconds=run.seconds,
        figures=figures,
        attempt=task.attempt,
    )
    now = Typical.of(nats, held_out, task.held_out.x.shape[-1])
    seen = trouble(now, run.typical, bound=check.bound, held_out_bound=check.held_out_bound)
    if not seen:
        run.typical = run.typical.best(now)
    return check, seen


@torch.no_grad()
def _figures(module: Model, held_out: Batch) -> dict[str, float]:
    """What a model in evaluation mode says of itself, on some of the held-out rows."""
    figures = module.figures(spaced(held_out, FIGURE_ROWS))
    return {name: float(figure) for name, figure in figures.items()}


def _steps(run: _Run, task: _Task, batches: Iterator[Batch], last: int) -> Tensor:
    """Take the steps up to `last`; their mean bounds, (steps,)."""
    module, group, training = run.module.train(), run.optimizer.param_groups[0], task.training
    taken = []
    while run.step < last:
        progress = run.step / task.plan.n_steps
        group["lr"] = run.rate * training.learning_rate * one_cycle(progress)
        part = next(batches)
        nats = task.bound(module, part, progress, run.noise).mean()
        run.optimizer.zero_grad()
        torch.autograd.backward(
            nats / -part.x.shape[-1]
        )  # a nat a feature: the clip norm fits any width
        torch.nn.utils.clip_grad_norm_(module.parameters(), training.clip_norm)
        run.optimizer.step()
        taken.append(nats.detach())
        run.step += 1
    return torch.stack(taken)


# ------------------------------------------------------------------------------------ checkpoints


class _State(NamedTuple):
    """What the steps of a training change, as it was at a good check."""

    step: int
    module: dict[str, Tensor]
    optimizer: dict[str, object]
    noise: Tensor


@dataclass
class _Run:
    """All that a training changes as it goes."""

    module: Model
    optimizer: torch.optim.Optimizer
    noise: torch.Generator
    step: int = 0
    rate: float = 1.0  # share of the learning rate, lowered by the doctor
    seconds: float = 0.0
    typical: Typical = field(default_factory=lambda: Typical(-math.inf, -math.inf))  # the best
    best_step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    good: _State = field(default_factory=lambda: _State(0, {}, {}, torch.empty(0)))

    @classmethod
    def begin(cls, module: Model, training: Training, seed: int) -> _Run:
        optimizer = torch.optim.AdamW(
            module.parameters(),
            lr=training.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=training.weight_decay,
            fused=True,
        )
        run = cls(module, optimizer, torch.Generator().manual_seed(seed))
        run.good = run.state()
        return run

    def state(self) -> _State:
        """A copy of what the steps change."""
        return _State(
            self.step,
            deepcopy(self.module.state_dict()),
            deepcopy(self.optimizer.state_dict()),
            self.noise.get_state(),
        )

    def restore(self) -> None:
        """Go back to the last good check."""
        self.step = self.good.step
        self.module.load_state_dict(self.good.module)
        self.optimizer.load_state_dict(deepcopy(self.good.optimizer))
        self.noise.set_state(self.good.noise)

    def note(self, check: Check) -> None:
        """Record a check, and keep the weights if it is the best one."""
        best = max((c.held_out_bound for c in self.checks), default=-math.inf)
        self.checks.append(check)
        self.good = self.state()
        if check.held_out_bound > best:
            self.best_step, self.best = check.step, self.good.module

    def step_back(self, check: Check, seen: str) -> None:
        """Go back to the last good check, and on at a lower rate; give up after some tries."""
        if len(self.events) == MOST_RETURNS:
            tried = "".join(f". Tried at {event}" for event in self.events)
            raise TrainingError(
                f"{seen} at step {check.step} of {check.n_steps}; lower training.learning_rate "
                f"(now at {check.learning_rate:g}), or look for absurd values in the training rows"
                f"{tried}"
            )
        self.rate *= LOWER
        done = f"back to step {self.good.step}, and on at {self.rate:g} of the learning rate"
        self.events.append(Event(check.step, seen, done, check.attempt))
        logger.warning("training, %s", self.events[-1])
        self.restore()

    def save(self, path: Path, key: str) -> None:
        """Write everything, so that a kill leaves the old checkpoint or the new one, and whole."""
        state = {
            "key": key,
            "good": self.good._asdict(),
            "rate": self.rate,
            "seconds": self.seconds,
            "typical": tuple(self.typical),
            "best_step": self.best_step,
            "best": self.best,
            "checks": [asdict(check) for check in self.checks],
            "events": [asdict(event) for event in self.events],
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
        self.good = _State(**state["good"])
        self.restore()
        self.rate, self.seconds = state["rate"], state["seconds"]
        self.typical = Typical(*state["typical"])
        self.best_step, self.best = state["best_step"], state["best"]
        self.checks = [Check(**check) for check in state["checks"]]
        self.events = [Event(**event) for event in state["events"]]


def _fingerprint(module: Model, windows: Windows, training: Training, seed: int) -> str:
    """Hash of what decides the weights: rows (a sample of them), settings, seed, first weights."""
    settings = f"{training.model_dump_json()} {seed} {len(windows.rows)}"
    digest = hashlib.sha256(settings.encode())
    for tensor in (*windows.spread(FINGERPRINT_ROWS), *module.state_dict().values()):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
