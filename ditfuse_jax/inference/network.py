# SPDX-License-Identifier: Apache-2.0
"""A network ready for compiled programs: read from its file, an adapter merged in, and blamed for NaN."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax import nnx

from ditfuse_jax.checkpoints.adapter import read_adapter
from ditfuse_jax.checkpoints.flat import fill, parameter_shapes, path_name
from ditfuse_jax.checkpoints.folder import load_params
from ditfuse_jax.models.lora import merge
from ditfuse_jax.ops.tuning import PORTABLE, Tuning


class Network(NamedTuple):
    """What a program takes: the split module."""

    graph: nnx.GraphDef  # static
    params: nnx.State
    tuning: Tuning = PORTABLE  # that of the modules in `graph`


def read_network(build: Callable[[], nnx.Module], file: Path, dtype: str, *, lora=None) -> Network:
    """The module that `build()` would make, with the tensors of `file` and an adapter merged into them."""
    params = load_params(file, parameter_shapes(build), dtype=dtype)
    if lora is not None:
        adapter = read_adapter(Path(lora))
        for name, tensor in adapter.tensors.items():
            if not np.isfinite(np.asarray(tensor, np.float32)).all():
                raise ValueError(f"adapter {lora}: {name} holds NaN or infinite values; copy it again")
        params = merge(params, adapter.tensors, adapter.lora)
    return Network(*nnx.split(fill(nnx.eval_shape(build), params)))


def check_finite(result: np.ndarray, params: nnx.State, file: Path) -> None:
    """Raises ValueError for a result with NaN or infinite values, naming the tensor of `file` to blame.

    params: read from `file`; the network that made the result.
    """
    if np.isfinite(result).all():
        return
    for path, variable in nnx.to_flat_state(params):
        if not np.isfinite(np.asarray(variable[...], np.float32)).all():
            raise ValueError(
                f"{file}: {path_name(path)} holds NaN or infinite values; the file is damaged, convert or "
                "copy it again"
            )
    raise ValueError(
        f"{file}: the weights are finite but their result is not; use dtype float32 or smaller scales"
    )
