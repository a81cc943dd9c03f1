# SPDX-License-Identifier: Apache-2.0
"""The model decides, the photographs supply the pixels: a result rebuilt from its sources."""

from ditfuse_jax.fidelity.rebuild import EXPLAINED, HALO, Rebuilt, rebuild

__all__ = ["EXPLAINED", "HALO", "Rebuilt", "rebuild"]
