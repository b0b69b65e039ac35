"""Imports run one way; each outside library stays in its room; every public name is documented."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vae_anomaly

ROOT = Path(__file__).parents[1]

#: Outside libraries that only some rooms may import: library → places.
ROOMS = {
    "torch": ("models/", "scoring/", "package.py", "streaming.py", "explanations.py",
              "detector.py", "detector_parts.py", "latent/", "steps/"),
    "safetensors": ("package.py", "models/training.py"),
    "pyarrow": ("data/", "package.py", "streaming.py", "explanations.py", "mlflow_model.py",
                "steps/", "demo.py"),
    "deltalake": ("data/", "steps/"),
    "pandas": ("detector.py", "mlflow_model.py"),
    "sklearn": ("decisions/", "scoring/baselines/", "scoring/scores/", "detector.py",
                "latent/"),
    "scipy": ("decisions/", "data/simulate/"),
    "mlflow": ("tracking/", "mlflow_model.py"),
    "matplotlib": ("pictures/", "report.py"),
    "rich": ("cli.py", "cli_stack.py", "terminal.py", "progress.py"),
    "prefect": (),
    "pipelines": ("cli.py", "cli_monitor.py", "cli_stack.py"),
}  # fmt: skip

#: Rooms from the ground up: a module imports only from its own level or a lower one.
LEVELS = (
    ("errors",),
    ("config", "table", "images", "terminal"),
    ("data", "models", "decisions", "pictures"),
    ("scoring",),
    (
        "package_file",
        "package",
        "streaming",
        "explanations",
        "detector_parts",
        "detector",
        "latent",
        "tracking",
    ),
    ("mlflow_model", "steps"),
    ("report", "progress"),
    ("demo",),
    ("cli", "cli_alarms", "cli_models", "cli_monitor", "cli_stack", "cli_uses", "__main__"),
)

#: Within these, a neighbour of the same level is another room: no imports between them.
APART = ("data", "models", "decisions", "pictures")


def modules(package: str) -> Iterator[Path]:
    return (ROOT / package).rglob("*.py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("library", ROOMS)
def test_library_stays_in_its_rooms(library: str) -> None:
    for path in modules("vae_anomaly"):
        place = path.relative_to(ROOT / "vae_anomaly").as_posix()
        if library in {name.split(".")[0] for name in imports(path)}:
            assert place.startswith(ROOMS[library]), f"{place} imports {library}"


def test_imports_run_one_way() -> None:
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    for path in modules("vae_anomaly"):
        own = path.relative_to(ROOT / "vae_anomaly").parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        assert own in level, f"{path} stands in no level of this test"
        for other in {room(m) for m in imports(path) if m.startswith("vae_anomaly.")} - {own}:
            assert level[other] <= level[own], f"{path} imports {other}, which is above it"
            assert own not in APART or other not in APART, f"{path} imports {other}"


def test_pipelines_hold_no_arithmetic() -> None:
    for path in modules("pipelines"):
        found = {name.split(".")[0] for name in imports(path)}
        assert not found & {"numpy", "pandas", "pyarrow", "torch", "sklearn", "mlflow"}, path


def test_what_a_store_says_of_transactions_is_told_in_one_place() -> None:
    """`lake.transaction_number`: the log is read for a number, and the store may be silent."""
    raw = [
        f.name
        for f in (ROOT / "vae_anomaly").rglob("*.py")
        if ".transaction_version(" in f.read_text()
    ]
    assert raw == ["lake.py"]


def test_importing_changes_nothing() -> None:
    code = (
        "import logging, random, warnings\n"
        "before = (len(logging.root.handlers), random.getstate(), len(warnings.filters))\n"
        "import vae_anomaly\n"
        "[getattr(vae_anomaly, name) for name in vae_anomaly.__all__]\n"
        "assert before[0] == len(logging.root.handlers)\n"
        "assert before[1] == random.getstate()\n"
        "assert not logging.getLogger('vae_anomaly').handlers\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_public_names_are_complete_and_sorted() -> None:
    assert list(vae_anomaly.__all__) == sorted(vae_anomaly.__all__)
    for name in vae_anomaly.__all__:
        assert hasattr(vae_anomaly, name), name


def public_names() -> Iterator[tuple[str, str]]:
    for info in pkgutil.walk_packages(vae_anomaly.__path__, "vae_anomaly."):
        if info.name == "vae_anomaly.mlflow_model":  # runs only inside MLflow
            continue
        module = importlib.import_module(info.name)
        assert module.__doc__, f"{info.name} has no docstring"
        yield from ((info.name, name) for name in getattr(module, "__all__", ()))


def test_every_public_name_is_documented() -> None:
    for module, name in public_names():
        thing = getattr(importlib.import_module(module), name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert inspect.getdoc(thing), f"{module}.{name} has no docstring"
            assert "Alias for field" not in (thing.__doc__ or ""), f"{module}.{name}"


def test_every_module_says_what_is_public() -> None:
    for path in modules("vae_anomaly"):
        if path.name != "__init__.py":
            text = path.read_text()
            assert "__all__" in text or path.name == "mlflow_model.py", path
