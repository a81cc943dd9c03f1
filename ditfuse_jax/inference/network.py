# SPDX-License-Identifier: Apache-2.0
"""A network ready for compiled programs: read from its file, an adapter merged in, and blamed for NaN."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from ditfuse_jax.checkpoints.adapter import Adapter
from ditfuse_jax.checkpoints.flat import fill, parameter_shapes, path_name
from ditfuse_jax.checkpoints.folder import load_params
from ditfuse_jax.models.lora import check_fit, merge
from ditfuse_jax.ops.tuning import PORTABLE, Tuning


class Network(NamedTuple):
    """What a program takes: the split module."""

    graph: nnx.GraphDef  # static
    params: nnx.State
    tuning: Tuning = PORTABLE  # that of the modules in `graph`


def read_network(module: nnx.Module, file: Path, *, lora: Adapter | None = None) -> Network:
    """`module`, an outline, with the tensors of `file` in its dtypes.

    An adapter is merged into them, or lies beside them where the module has live ones.
    """
    shapes = parameter_shapes(module)
    live = {name: leaf for name, leaf in shapes.items() if name.endswith((".lora_a", ".lora_b"))}
    params = load_params(file, {name: leaf for name, leaf in shapes.items() if name not in live})
    if lora is not None and live:
        check_fit(params, lora.tensors, lora.lora)
        params |= {name: jax.numpy.asarray(x) for name, x in lora.tensors.items()}
    elif lora is not None:
        params = merge(params, lora.tensors, lora.lora)
    return Network(*nnx.split(fill(module, params)))


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
