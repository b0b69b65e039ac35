"""The suites of `quality.py`. A new one is a file and a line in `SUITES`."""

from __future__ import annotations

from suites import adbench, ai4i, cmapss, nab, skab, tep, tsb_ad
from suites.adbench import PROTOCOLS, Protocol
from suites.case import Suite

__all__ = ["PROTOCOLS", "SUITES", "suite_of"]

SUITES: dict[str, Suite] = {
    "adbench": adbench.suite("dte"),
    "skab": skab.SUITE,
    "tep": tep.SUITE,
    "msl": tsb_ad.MSL,
    "smd": tsb_ad.SMD,
    "cmapss": cmapss.SUITE,
    "ai4i": ai4i.SUITE,
    "nab": nab.SUITE,
}


def suite_of(name: str, protocol: Protocol = "dte", *, quick: bool = False) -> Suite:
    """The suite; protocol and caps are those of ADBench."""
    return adbench.suite(protocol, quick=quick) if name == "adbench" else SUITES[name]
