"""Commands for what one does with a model beside judging: each gives a table and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vae_anomaly.errors import InputError

if TYPE_CHECKING:
    from vae_anomaly.table import Table

__all__ = ["USES", "add_use_options", "use_table"]

#: Command → the options that its step takes.
USES: dict[str, tuple[str, ...]] = {
    "generate": ("n", "context", "label", "asset", "model", "mean", "seed", "image"),
    "augment": ("n", "temperature", "asset", "model", "seed", "image"),
    "interpolate": ("asset", "start", "end", "steps", "spherical", "model", "image"),
    "traverse": ("asset", "at", "steps", "model", "image"),
    "embed": ("color", "kind", "asset", "model", "seed"),
}

#: Options without which there is nothing to do.
NEEDED = {"asset": "--asset", "start": "--from", "end": "--to"}


def add_use_options(sub: argparse.ArgumentParser, name: str) -> None:
    """Give a command the options of its step."""
    has = USES[name]
    kept = Path("embedding" if name == "embed" else f"{name}.csv")
    form = "folder" if name == "embed" else ".csv or .parquet file; a picture goes beside it"
    sub.add_argument("--out", type=Path, default=kept, help=f"{form}; default {kept}")
    model = "champion, a version, an alias, or the folder of a package"
    sub.add_argument("--model", default="champion", help=f"{model}; default champion")
    whose = "whose model, where each asset has its own" if "n" in has else "whose readings"
    sub.add_argument("--asset", default="", help=whose)
    if "n" in has:
        sub.add_argument("--n", type=int, default=1000, help="rows, or windows; default 1000")
    if "steps" in has:
        sub.add_argument("--steps", type=int, default=9, help="from end to end; default 9")
    if "seed" in has:
        sub.add_argument("--seed", type=int, default=0, help="the same gives the same; default 0")
    if "context" in has:
        said = "an operating condition that is to hold; may be given again"
        sub.add_argument("--context", action="append", metavar="NAME=VALUE", help=said)
        kinds = "0 normal; a kind of anomaly, of a model that learnt from labels; default 0"
        sub.add_argument("--class", dest="label", type=int, default=0, help=kinds)
        sub.add_argument("--mean", action="store_true", help="leave the observation noise out")
    if "temperature" in has:
        said = "0 stays at the reconstruction, more goes further away; default 1"
        sub.add_argument("--temperature", type=float, default=1.0, help=said)
    if "spherical" in has:
        sub.add_argument("--from", dest="start", default="", metavar="TIME", help="first reading")
        sub.add_argument("--to", dest="end", default="", metavar="TIME", help="last reading")
        sub.add_argument("--spherical", action="store_true", help="go along a great circle")
    if "at" in has:
        said = "the reading to start from; default a typical one"
        sub.add_argument("--at", default="", metavar="TIME", help=said)
    if "image" in has:
        said = "a row is an image of this height and width; default what the model says"
        sub.add_argument("--image", type=_sizes, default=(), metavar="28x28", help=said)
    if "kind" in has:
        colors, maps = ("label", "asset", "time"), ("pca", "tsne")
        sub.add_argument("--color", choices=colors, default="label", help="of the dots")
        sub.add_argument("--map", dest="kind", choices=maps, default="pca", help="default pca")


def use_table(options: argparse.Namespace) -> Table:
    """Do what a command asks for; what it made, and where it is.

    Raises
    ------
    InputError
        An option is missing or contradicts the plant.
    """
    from vae_anomaly.config import read_plant

    plant = read_plant(options.plant)
    if options.name == "interpolate":
        lacking = [option for name, option in NEEDED.items() if not getattr(options, name)]
        if lacking:
            raise InputError(f"between which readings? give {', '.join(lacking)} too")
    asked = {name: getattr(options, name) for name in USES[options.name]}
    if "context" in asked:
        asked["context"] = dict(_condition(text) for text in options.context or ())
    from importlib import import_module

    from vae_anomaly.steps.made import made_table

    step = import_module(f"vae_anomaly.steps.{options.name}")
    return made_table(getattr(step, options.name)(plant, options.out, **asked))


def _sizes(text: str) -> tuple[int, ...]:
    """28x28 as numbers; argparse says what is wrong with another text."""
    return tuple(int(part) for part in text.split("x"))


def _condition(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise InputError(f"--context {text}: write it as NAME=VALUE, such as speed=1200")
    return name, value
