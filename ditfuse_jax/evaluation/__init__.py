# SPDX-License-Identifier: Apache-2.0
"""How good a fused picture is, and how far each number can be trusted: `python -m ditfuse_jax.evaluation`."""
