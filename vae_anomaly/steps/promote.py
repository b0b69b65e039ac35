"""Who judges, by hand: promote a version, roll back, take one out of use."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from vae_anomaly.config import PlantConfig
from vae_anomaly.decisions.comparison import Comparison
from vae_anomaly.decisions.rates import Interval
from vae_anomaly.errors import RegistryError
from vae_anomaly.package import ModelPackage
from vae_anomaly.steps.aliases import ARCHIVED, apply_promotions, set_champion, settle
from vae_anomaly.steps.beside import Beside, beside_champion
from vae_anomaly.steps.gate import DECISION, PROMOTED, REASONS, REFUSED, as_json
from vae_anomaly.steps.promotions import Promotion, Standing, append_promotion, speaker
from vae_anomaly.table import Table
from vae_anomaly.tracking import Tracking, Version, open_tracking

__all__ = ["PromoteReport", "archive", "known_version", "promote", "promote_table", "rollback"]

#: Tag of a version: the plant that it was trained for.
PLANT = "vae_anomaly.plant"

#: Of a version that has judged nothing beside the champion.
NOTHING = Beside()


@dataclass(frozen=True)
class PromoteReport:
    """A change of who judges, or what it would be.

    Attributes
    ----------
    action : str
        ``promote``, ``rollback`` or ``archive``.
    version : str
        Version that it is about.
    champion, previous : str
        Version that judges now, and the one that a rollback goes back to; empty where none is.
    before : str
        Version that judged until now.
    reasons : tuple of str
        What the gate had against the version.
    beside : Beside
        The version beside the champion, on what both have judged.
    dry : bool
        Nothing was changed.
    """

    action: Literal["promote", "rollback", "archive"]
    version: str
    champion: str
    previous: str
    before: str
    reasons: tuple[str, ...] = ()
    beside: Beside = NOTHING
    dry: bool = False


def promote(
    plant: PlantConfig,
    version: str = "",
    *,
    why: str = "",
    by: str = "",
    force: bool = False,
    dry_run: bool = False,
) -> PromoteReport:
    """Let a version judge from the next scoring on.

    Parameters
    ----------
    plant : PlantConfig
    version : str, optional
        Number or alias; by default the challenger.
    why, by : str, optional
        For the table `promotions`; the login name by default.
    force : bool, optional
        Also one that is archived, or that the gate found worse.
    dry_run : bool, optional
        Only look at what is known of it.

    Raises
    ------
    RegistryError
        There is no such version, it judges already, it is another plant's, or it needs `force`; or
        MLflow does not answer.
    PackageError
        Its package is damaged.
    """
    tracking = open_tracking(plant)
    settle(plant, tracking)
    chosen = known_version(tracking, version or tracking.config.challenger)
    champion = tracking.champion()
    if champion is not None and champion.version == chosen.version:
        raise RegistryError(f"version {chosen.version} judges already; there is nothing to promote")
    package = _verified(plant, tracking, chosen)
    beside = NOTHING
    if champion is not None:
        beside = beside_champion(plant, chosen, package, tracking.config.gate)
    reasons = tuple(json.loads(chosen.tags.get(REASONS, "[]")))
    worse = tuple(figure.reason for figure in beside.figures if not figure.holds)
    reasons += worse
    before = "" if champion is None else champion.version
    if dry_run:
        return PromoteReport(
            "promote", chosen.version, before, "", before, reasons, beside, dry=True
        )
    _refuse_unforced(chosen, reasons, worse, force=force)
    figures = as_json(beside.figures) if beside.figures else ""
    now = set_champion(
        plant, tracking, chosen, action="promoted" if before else "first",
        why=why or "by hand", by=by, gate=figures, force=force,
    )  # fmt: skip
    tracking.set_tags(chosen, {DECISION: PROMOTED})
    return _report("promote", tracking, chosen, now, before, reasons, beside)


def rollback(plant: PlantConfig, *, why: str = "", by: str = "") -> PromoteReport:
    """Let the version judge that judged before the champion, from the next scoring on.

    The champion goes off the stack of `promotions`: the next rollback goes further back.

    Parameters
    ----------
    plant : PlantConfig
    why, by : str, optional
        As for `promote`.

    Raises
    ------
    RegistryError
        There is nothing to go back to, or MLflow does not answer.
    PackageError
        The package of that version is damaged.
    """
    tracking = open_tracking(plant)
    settle(plant, tracking)
    champion, previous = tracking.champion(), tracking.previous()
    if champion is None or previous is None:
        raise RegistryError(
            f"'{tracking.config.model_name}' has no version with the alias "
            f"'{tracking.config.previous}' to go back to; `vae-anomaly history` lists the changes, "
            "and `vae-anomaly promote plant.yml VERSION` names any version"
        )
    _verified(plant, tracking, previous)
    now = set_champion(plant, tracking, previous, action="rolled_back", why=why or "by hand", by=by)
    return _report("rollback", tracking, previous, now, champion.version)


def archive(plant: PlantConfig, version: str, *, why: str = "", by: str = "") -> PromoteReport:
    """Take a version out of use: it loses its aliases, and is promoted only with `force`.

    Its package and its verdicts stay.

    Parameters
    ----------
    plant : PlantConfig
    version : str
        Number or alias.
    why, by : str, optional
        As for `promote`.

    Raises
    ------
    RegistryError
        There is no such version, or it is the champion; or MLflow does not answer.
    """
    tracking = open_tracking(plant)
    settle(plant, tracking)
    chosen, champion = known_version(tracking, version), tracking.champion()
    before = "" if champion is None else champion.version
    entry = Promotion("archived", "", chosen.version, speaker(by), why or "by hand")
    now = append_promotion(plant, entry)
    apply_promotions(plant, tracking)
    return _report("archive", tracking, chosen, now, before)


def known_version(tracking: Tracking, text: str) -> Version:
    """The version of a number or alias.

    Raises
    ------
    RegistryError
        There is none; the message says which there are.
    """
    versions = tracking.versions()
    for version in versions:
        if text == version.version or text in version.aliases:
            return version
    known = ", ".join(
        v.version + (f" ({', '.join(v.aliases)})" if v.aliases else "") for v in versions
    )
    raise RegistryError(
        f"'{tracking.config.model_name}' has no version or alias '{text}'; there "
        f"{'are: ' + known if known else 'is none yet: run `vae-anomaly run`'}"
    )


def _verified(plant: PlantConfig, tracking: Tracking, version: Version) -> ModelPackage:
    """A version's package, if it is this plant's and scores as when it was sealed."""
    owner = version.tags.get(PLANT, plant.name)
    if owner != plant.name:
        raise RegistryError(
            f"version {version.version} of '{version.name}' is of plant '{owner}', not "
            f"'{plant.name}'; give each plant a model_name of its own in mlflow.yml"
        )
    return ModelPackage.read(tracking.fetch_package(version, plant.work_path / "packages"))


def _refuse_unforced(
    version: Version, reasons: tuple[str, ...], worse: tuple[str, ...], *, force: bool
) -> None:
    if force:
        return
    if ARCHIVED in version.tags:
        raise RegistryError(
            f"version {version.version} is archived ({version.tags[ARCHIVED]}); --force promotes "
            "it all the same"
        )
    if version.tags.get(DECISION) == REFUSED:
        raise RegistryError(
            f"the gate refused version {version.version}: {'; '.join(reasons)}. --force promotes "
            "it all the same"
        )
    if worse:
        raise RegistryError(
            f"version {version.version} is worse beside the champion: {'; '.join(worse)}. --force "
            "promotes it all the same"
        )


def _report(
    action: Literal["promote", "rollback", "archive"],
    tracking: Tracking,
    version: Version,
    now: Standing,
    before: str,
    reasons: tuple[str, ...] = (),
    beside: Beside = NOTHING,
) -> PromoteReport:
    previous = now.previous([known.version for known in tracking.versions()])
    return PromoteReport(action, version.version, now.champion, previous, before, reasons, beside)


def promote_table(report: PromoteReport) -> Table:
    """Who judges now, and the version beside the champion."""
    title = {"promote": "Promotion", "rollback": "Rollback", "archive": "Archive"}[report.action]
    if report.dry:
        summary = f"Version {report.version} beside champion version {report.before}; no change."
    elif report.action == "archive":
        summary = f"Version {report.version} is archived; version {report.champion} judges on."
    else:
        summary = f"Version {report.champion} judges from the next scoring on"
        summary += f", in place of version {report.before}." if report.before else "."
    said = "the gate" if report.dry else "the gate had said"
    notes = [f"{said}: {reason}" for reason in report.reasons]
    if report.previous:
        notes.append(f"a rollback goes back to version {report.previous}")
    if report.beside.asset_days:
        days = f"{report.beside.asset_days:.3g} days of an asset, those of all assets added up"
        notes.append(f"both have judged the same {days}")
    elif report.dry:
        notes.append("it has judged nothing beside the champion yet")
    lines = tuple(_line(figure) for figure in report.beside.figures)
    columns = ("figure", "this version", "champion", "difference", "no worse")
    return Table(title, summary, columns if lines else (), lines, tuple(notes))


def _line(figure: Comparison) -> tuple[str, ...]:
    form = "{:.1%}" if figure.is_share else "{:.2g}"
    sides = (figure.challenger, figure.champion, figure.difference)
    texts = [_text(side, form) for side in sides]
    if n := figure.n_faults:
        texts[:2] = (f"{round(side.value * n)} of {n}" for side in sides[:2])
    return (figure.figure, *texts, "yes" if figure.holds else "no")


def _text(side: Interval, form: str) -> str:
    if not side.known:
        return "–"
    value, low, high = (form.format(end) for end in (side.value, side.low, side.high))
    # resamples that are all alike say nothing of how far fresh rows may differ
    return value if side.low == side.high else f"{value} ({low} to {high})"
