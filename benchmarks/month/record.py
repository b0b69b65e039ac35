"""What was seen as the month went by: what died, what failed, what came, who judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from month.receiver import Received
from month.runner import Answer
from month.schedule import Run
from month.story import Story


class Death(NamedTuple):
    """A kill that was asked for, and that ended what it was meant to end."""

    name: str
    at: float  # seconds since 1970
    with_run: bool = False  # whether a run of a flow died with it


@dataclass
class Record:
    """What was seen as the month went by."""

    hours: list[Answer] = field(default_factory=list)
    windows: list[dict[str, object]] = field(default_factory=list)
    frozen: Answer = field(default_factory=dict)
    bad: Answer = field(default_factory=dict)
    retrained: Answer = field(default_factory=dict)
    champions: dict[str, str] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    scheduled: list[Run] = field(default_factory=list)
    received: Received = field(default_factory=Received)

    @property
    def went_on(self) -> list[Run]:
        """Runs of the schedule that began after the worker's last death, and scored to the end.

        None where it never died.
        """
        died = max((death.at for death in self.deaths if death.name == "worker"), default=math.inf)
        return [run for run in self.scheduled if run.scored and run.began > died]


@dataclass
class Month:
    """A month under way."""

    story: Story
    folder: Path
    record: Record = field(default_factory=Record)
    timeline: list[str] = field(default_factory=list)

    @property
    def plant(self) -> Path:
        """The plant file."""
        return self.folder / "plant.yml"

    def say(self, step: int, text: str) -> None:
        """A line of the timeline."""
        line = f"day {self.story.day(step):5.2f}  {text}"
        print(line, flush=True)
        self.timeline.append(line)

    def failed(self, step: int, name: str, answer: Answer) -> None:
        """A command that failed by itself: said in the timeline, and held against the month."""
        self.say(step, f"{name} failed: {answer['error']}")
        self.record.failures.append(f"day {self.story.day(step):.2f}: {name}, {answer['error']}")
