# SPDX-License-Identifier: Apache-2.0
"""Modules as flat dictionaries {dot path: array}, the names of a checkpoint folder, and back."""

from collections.abc import Mapping

import jax
from flax import nnx


def path_name(path: tuple) -> str:
    """The dot path of an nnx path: ("layers", "attn", "qkv", "kernel") -> "layers.attn.qkv.kernel"."""
    return ".".join(map(str, path))


def flatten(module: nnx.Module) -> dict[str, nnx.Variable]:
    """{dot path: variable} of everything that a module stores."""
    return {path_name(path): variable for path, variable in nnx.to_flat_state(nnx.state(module))}


def fill(module: nnx.Module, params: Mapping[str, jax.Array]) -> nnx.Module:
    """A copy of `module`, which may hold shapes alone, with the arrays of `params` in its variables."""
    graph, state = nnx.split(module)
    leaves = [(path, leaf.replace(params[path_name(path)])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def parameter_shapes(outline: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """{dot path: shape and dtype} of a module that holds shapes alone, see models/outline.py."""
    return {name: variable.get_value() for name, variable in flatten(outline).items()}
