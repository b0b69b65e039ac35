"""Files as the plant has them → a plant.yml with comments that runs as it stands."""

from __future__ import annotations

import glob
import logging
import os
import re
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vae_anomaly.config import Contract, PlantConfig, Source, read_plant
from vae_anomaly.data.infer.findings import Findings, find
from vae_anomaly.data.infer.plant_file import plant_text
from vae_anomaly.data.infer.sample import take_sample
from vae_anomaly.data.sources import SourceFile, list_files
from vae_anomaly.data.sources.files import asset_stem, format_of
from vae_anomaly.errors import ConfigError, SourceError
from vae_anomaly.table import Table

__all__ = ["InitReport", "init", "init_table"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitReport:
    """What was found and written.

    Attributes
    ----------
    plant : PlantConfig
        The plant file, read back.
    text : str
    path : Path
        Where it is, or would be.
    is_written : bool
    found : Findings
    """

    plant: PlantConfig
    text: str
    path: Path
    is_written: bool
    found: Findings


def init(
    given: Sequence[str], out: Path, *, name: str = "", dry_run: bool = False, force: bool = False
) -> InitReport:
    """Look at files and write a plant file for them.

    Whole files are read where they are small; of large ones, blocks from all over: at most some
    hundred megabytes are held, and it takes seconds.

    Parameters
    ----------
    given : sequence of str
        Files, a folder, a glob or a URL, relative to the working directory.
    out : Path
        The plant file.
    name : str
        Of the plant; by default that of the file or the folder.
    dry_run : bool
        Write nothing.
    force : bool
        Replace a plant file that is there.

    Raises
    ------
    SourceError
        A file cannot be read, holds no table with numbers, or has other columns than the first.
    ConfigError
        The plant file is there already.
    """
    out = Path(os.path.abspath(out))
    path, files = _located(given)
    if out.exists() and not (force or dry_run):
        raise ConfigError(f"{out} is there already; give another --out, or --force to replace it")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder {out.parent} does not exist; make it, or give another --out")
    name = name or _name(path, files)
    found = find(take_sample(files, _as_source(path, files)), name=name)
    shown = path if "://" in path else os.path.relpath(path, out.parent)
    text = plant_text(found, name=name, path=Path(shown).as_posix(), title=_title(found))
    plant = _read_back(text, out)
    if not dry_run:
        out.write_text(text, encoding="utf-8")
        plant = read_plant(out)
        logger.info("wrote %s", out)
    return InitReport(plant, text, out, not dry_run, found)


def init_table(report: InitReport) -> Table:
    """What was found, in a few lines, and what a person must look at."""
    found, contract = report.found, report.plant.contract
    time = contract.time
    how = time.format or (f"{time.epoch} since 1970" if time.epoch else "ISO 8601")
    if time.step_s is not None:
        how = f"steps of {time.step_s:g} s"
    elif time.epoch is None:
        how += f", {time.zone}"
    pace = found.pace
    rows = [
        ("rows", f"{found.sample.n_rows:,} in {_counted(len(found.sample.files), 'file')}"),
        ("time", f"{time.column or 'number of the row'} ({how})"),
        ("period", f"{pace.period_s:g} s" + ("" if pace.is_steady else ", irregular")),
        ("asset", f"{_asset(contract)} ({_counted(found.n_assets, 'asset')})"),
        ("sensors", f"{len(contract.sensors):,}"),
        ("context", ", ".join(contract.context_names) or "none"),
        ("label", contract.label or "none"),
    ]
    if found.span:
        rows.insert(2, ("span", found.span))
    where = os.path.relpath(report.path)
    notes = (*found.notes, f"next: vae-anomaly check {where}, then vae-anomaly run {where}")
    summary = f"{where} is written." if report.is_written else f"{where} would be written."
    return Table("Init", summary, ("", ""), tuple(rows), notes)


def _asset(contract: Contract) -> str:
    """What tells assets apart, in a word."""
    if contract.asset is None:
        return "file"
    asset = contract.asset
    return (
        asset.column or asset.name or ("folder" if "/" in asset.from_file else "name of the file")
    )


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _located(given: Sequence[str]) -> tuple[str, tuple[SourceFile, ...]]:
    """One path that stands for all that was given, and its files."""
    if len(given) == 1:
        path = given[0] if "://" in given[0] else os.path.abspath(given[0])
        if "://" not in path and not (os.path.exists(path) or glob.glob(path, recursive=True)):
            raise SourceError(
                f"there is no {given[0]}; give the files of your own data: one, several, their "
                "folder, a glob or a URL"
            )
        source = Source(path=path)
        return path, list_files(source)
    paths = sorted({os.path.abspath(path) for path in given})
    for path in paths:
        if not os.path.isfile(path):
            raise SourceError(f"{path} is no file; give several files, or one folder or glob alone")
    folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    endings = {os.path.splitext(path)[1] for path in paths}
    tried = [folder, *(os.path.join(folder, f"*{ending}") for ending in endings)]
    for path in tried:
        try:
            files = list_files(Source(path=path))
        except SourceError:
            continue
        if [file.path for file in files] == paths:
            return path, files
    raise SourceError(
        f"the {len(paths)} files are not all of their kind in {folder}; a plant file names one "
        "file, one folder or one glob: move them to a folder of their own, and give that"
    )


def _as_source(path: str, files: Sequence[SourceFile]) -> Source:
    source = Source(path=path)
    if any(format_of(file, source) is None for file in files):
        return source.model_copy(update={"format": "csv"})
    return source


def _name(path: str, files: Sequence[SourceFile]) -> str:
    """A plant's name from its files': letters, digits, dots and dashes."""
    stem = asset_stem(files[0].path) if len(files) == 1 else os.path.basename(path.rstrip("/*"))
    if "*" in stem:
        stem = os.path.basename(os.path.dirname(path))
    ascii_stem = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", ascii_stem).strip("-._")
    return plain if plain and plain[0].isalnum() else "plant"


def _title(found: Findings) -> str:
    """What was read, in a sentence."""
    sample = found.sample
    n_files = len(sample.files)
    files = f"{n_files:,} files" if n_files > 1 else sample.files[0].path.rpartition("/")[2]
    if sample.is_whole:
        return f"It rests on all {sample.n_rows:,} rows of {files}."
    size = sum(file.size for file in sample.files)
    read = f"{sample.n_files_read:,} of {files}" if sample.n_files_read < n_files else files
    return f"It rests on {sample.n_rows:,} rows from all over {read} ({size / 1e6:,.0f} MB in all)."


def _read_back(text: str, out: Path) -> PlantConfig:
    """The plant file as every other command will read it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / out.name
        file.write_text(text, encoding="utf-8")
        plant = read_plant(file)
    source = plant.source
    if "://" not in source.path:
        moved = os.path.relpath(source.path, folder)
        source = source.model_copy(
            update={"path": os.path.normpath(os.path.join(out.parent, moved))}
        )
    return plant.model_copy(update={"source": source})
