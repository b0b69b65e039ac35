"""Counter-based random numbers: entry i of a stream, without the entries before it.

A stream is named by seed, asset and purpose; its i-th number is a hash of (stream, i). So any piece
of a simulation can be drawn alone, and equals the same piece of the whole.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Ints", "normals", "uniforms"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# The constants of SplitMix64 (Steele, Lea & Flood 2014).
GAMMA = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
WORD = 2**64


def uniforms(seed: int, asset: int, purpose: str, index: Ints) -> Floats:
    """Entries `index` of a stream of uniform numbers in (0, 1).

    Parameters
    ----------
    seed, asset : int
        Seed of the simulation and number of the asset.
    purpose : str
        What the numbers are for; other purposes are independent streams.
    index : ndarray of int64, shape (*,)
        Which entries; negative ones exist too.

    Returns
    -------
    ndarray of shape (*,)
        Uniform numbers; the same arguments give the same numbers.

    References
    ----------
    Steele, Lea & Flood (2014), Fast Splittable Pseudorandom Number Generators, OOPSLA.
    Salmon et al. (2011), Parallel Random Numbers: As Easy as 1, 2, 3, SC11.

    Examples
    --------
    >>> whole = uniforms(0, 1, "noise", np.arange(10))
    >>> bool((uniforms(0, 1, "noise", np.arange(7, 10)) == whole[7:]).all())
    True
    """
    key = _mixed(_mixed(_mixed(seed) + asset) + zlib.crc32(purpose.encode()))
    word = np.asarray(index, dtype=np.int64).astype(np.uint64) * np.uint64(GAMMA) + np.uint64(key)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(MIX_1)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(MIX_2)
    word ^= word >> np.uint64(31)
    uniform: Floats = ((word >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform


def normals(seed: int, asset: int, purpose: str, index: Ints) -> Floats:
    """Entries `index` of a stream of standard normal numbers; arguments as for `uniforms`.

    References
    ----------
    Box & Muller (1958), A Note on the Generation of Random Normal Deviates.
    """
    radius = np.sqrt(-2 * np.log(uniforms(seed, asset, purpose, 2 * index)))
    normal: Floats = radius * np.cos(2 * np.pi * uniforms(seed, asset, purpose, 2 * index + 1))
    return normal


def _mixed(word: int) -> int:
    """One step of SplitMix64 on a Python integer."""
    word = (word + GAMMA) % WORD
    word = ((word ^ (word >> 30)) * MIX_1) % WORD
    word = ((word ^ (word >> 27)) * MIX_2) % WORD
    return word ^ (word >> 31)
