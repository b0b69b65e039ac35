"""Processes that take turns, one call to MLflow or to a table at a time, and are killed between."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from mlflow import MlflowClient

from vae_anomaly.data.lake import Lake
from vae_anomaly.steps import promotions

#: What is asked of MLflow and of the lake by who changes aliases, or looks at them.
CALLS: tuple[tuple[object, str], ...] = (
    (Lake, "found"),
    (promotions, "commit"),
    *(
        (MlflowClient, name)
        for name in (
            "get_registered_model",
            "search_model_versions",
            "get_model_version_by_alias",
            "set_registered_model_alias",
            "delete_registered_model_alias",
            "set_registered_model_tag",
            "delete_registered_model_tag",
            "set_model_version_tag",
            "delete_model_version_tag",
        )
    ),
)

_here = threading.local()


class KilledError(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


class Process:
    """Work that waits before each of its calls until it is let on."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.n_calls = 0
        self.is_over = False
        self._error: BaseException | None = None
        self._is_killed = False
        self._turn, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=[work], daemon=True)
        self._thread.start()
        self._waits.acquire()

    def _run(self, work: Callable[[], object]) -> None:
        _here.process = self
        try:
            work()
        except KilledError:
            pass
        except BaseException as error:
            self._error = error
        self.is_over = True
        self._waits.release()

    def pause(self) -> None:
        """Wait for the next turn."""
        self._waits.release()
        self._turn.acquire()
        if self._is_killed:
            raise KilledError

    def go(self, n_calls: int = 1) -> None:
        """Let it make so many calls, if it has as many to make."""
        for _ in range(n_calls):
            if self.is_over:
                break
            self.n_calls += 1
            self._turn.release()
            self._waits.acquire()
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Let it make all its calls."""
        while not self.is_over:
            self.go()

    def kill(self) -> None:
        """End it before its next call."""
        self._is_killed = True
        self.go()
        self._thread.join()


def take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call of a `Process` wait for its turn; other callers are not held up."""
    for owner, name in CALLS:
        monkeypatch.setattr(owner, name, _held(getattr(owner, name)))


def _held(call: Callable[..., object]) -> Callable[..., object]:
    def held(*args: object, **kwargs: object) -> object:
        process = getattr(_here, "process", None)
        if process is not None:
            process.pause()
        return call(*args, **kwargs)

    return held
