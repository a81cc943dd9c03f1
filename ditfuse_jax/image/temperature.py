# SPDX-License-Identifier: Apache-2.0
"""Degrees from the counts of a FLIR camera, by the constants in its file.

planck(T) = R1 / (R2 (exp(B / T) - F)) - O          counts that a black body of T kelvin gives
counts = e t w t S + (1 - e) t w t planck(reflected) + (1 - t) w t planck(air) + (1 - w) t planck(window)
         + (1 - t) planck(air)                      t: of the air before and behind the window w, half the way
t = X exp(-s (A1 + B1 h)) + (1 - X) exp(-s (A2 + B2 h)), s = sqrt(distance / 2), h = sqrt(water in the air)

As `raw2temp` of the R package Thermimage has it (Minkina and Dudzik, Infrared Thermography, 2009, chapter 2).
"""

import math
from typing import NamedTuple

import numpy as np

ZERO = 273.15  # kelvin


class Constants(NamedTuple):
    emissivity: float
    distance: float  # metres
    reflected: float  # kelvin
    atmosphere: float  # kelvin
    window: float  # kelvin
    transmission: float  # of the window
    humidity: float  # 0 to 1
    r1: float
    b: float
    f: float
    o: float
    r2: float
    alpha1: float
    alpha2: float
    beta1: float
    beta2: float
    x: float


def celsius(counts: np.ndarray, known: Constants) -> np.ndarray:
    """float32 [h, w] of uint16 [h, w]; counts that not even 0 kelvin gives are 0 kelvin.

    Raises ValueError for constants that say nothing, such as zeros.
    """
    try:
        air = _air(known)
        whole = known.emissivity * air * known.transmission * air
        beside = (
            (1 - known.emissivity) * air * known.transmission * air * _planck(known.reflected, known)
            + (1 - air) * known.transmission * air * _planck(known.atmosphere, known)
            + (1 - known.transmission) * air * _planck(known.window, known)
            + (1 - air) * _planck(known.atmosphere, known)
        )
        if not whole > 0:  # also NaN
            raise ValueError(f"transmission {whole}")
        light = ((counts.astype(np.float64) - beside) / whole + known.o) * known.r2 / known.r1
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"no usable constants ({error})") from error
    with np.errstate(invalid="ignore"):  # of constants that are refused below
        kelvin = np.where(light <= 0, 0, known.b / np.log(1 / np.maximum(light, 1e-12) + known.f))
    if not (np.isfinite(kelvin).all() and kelvin.min() >= 0):
        raise ValueError("no usable constants")
    return (kelvin - ZERO).astype(np.float32)


def _air(known: Constants) -> float:
    """Transmission of half the way."""
    degrees = known.atmosphere - ZERO
    water = known.humidity * math.exp(
        1.5587 + 6.939e-2 * degrees - 2.7816e-4 * degrees**2 + 6.8455e-7 * degrees**3
    )
    s, h = math.sqrt(known.distance / 2), math.sqrt(water)
    near = math.exp(-s * (known.alpha1 + known.beta1 * h))
    far = math.exp(-s * (known.alpha2 + known.beta2 * h))
    return known.x * near + (1 - known.x) * far


def _planck(kelvin: float, known: Constants) -> float:
    return known.r1 / (known.r2 * (math.exp(known.b / kelvin) - known.f)) - known.o
