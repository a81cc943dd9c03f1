# SPDX-License-Identifier: Apache-2.0
"""The mesh, and which axis of which parameter lies on it."""

import math
import re

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from ditfuse_jax.text import quoted

MOST_DEVICES = 65_536  # on one axis
AXES = ("data", "fsdp", "tensor")  # batch rows lie on data and fsdp; parameters on fsdp and tensor
BATCH = P(("data", "fsdp"))

# First match wins. Leading axis of layers.* is the layer, which is scanned and never split.
RULES = (
    (r".*\.lora_[ab]", P()),  # small; replicated, so that only its gradients cross the data axis
    (r"layers\.(attn\.qkv|mlp\.gate_up)\.kernel", P(None, "fsdp", "tensor")),
    (r"layers\.(attn\.out|mlp\.down)\.kernel", P(None, "tensor", "fsdp")),
    (r"embed\.embedding", P("tensor", "fsdp")),
    (r"(final\.modulation|time_token\.\w+|time_embed\.\w+)\.kernel", P("fsdp", "tensor")),
    (r"position_table", P("fsdp", None)),
    (r".*", P()),  # norms, biases, the patch projections, the VAE
)


def parse_mesh(text: str) -> dict[str, int]:
    """`8` or `data=8` or `data=2,fsdp=4` as {axis: devices} with all axes; ValueError names what is wrong."""
    if not text:
        return dict.fromkeys(AXES, 1)
    sizes = dict.fromkeys(AXES, 1)
    for part in text.split(",") if not text.isdigit() else [f"data={text}"]:
        axis, _, number = part.partition("=")
        if axis not in AXES or not number.isdecimal() or not 1 <= int(number[:7]) <= MOST_DEVICES:
            raise ValueError(
                f"--mesh {quoted(text)}: write a number of devices up to {MOST_DEVICES:,}, or axes of "
                f"{', '.join(AXES)} as data=2,fsdp=4"
            )
        sizes[axis] = int(number)
    return sizes


def make_mesh(sizes: dict[str, int]) -> Mesh:
    """A mesh of the first devices; ValueError when there are fewer, or when a process would have none."""
    needed, present = math.prod(sizes.values()), jax.devices()
    if needed > len(present) or (jax.process_count() > 1 and needed != len(present)):
        raise ValueError(
            f"a mesh of {needed} devices does not fit the {len(present)} {present[0].platform} devices here; "
            "choose --mesh to match"
        )
    types, shape = (jax.sharding.AxisType.Auto,) * len(AXES), tuple(sizes[axis] for axis in AXES)
    if jax.process_count() == 1:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=present[:needed])
    # In the order of processes, so that each one makes one run of rows; make_mesh may mix them.
    ordered = sorted(present, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered).reshape(shape), AXES, axis_types=types)


def spec_of(path: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The first rule's spec for a parameter; an axis that does not divide its dimension is dropped."""
    spec = next(spec for pattern, spec in RULES if re.fullmatch(pattern, path))
    axes = [
        axis if axis and size % mesh.shape[axis] == 0 else None
        for axis, size in zip(spec, shape, strict=False)
    ]
    return P(*axes)


def shardings(shapes: dict, mesh: Mesh) -> dict[str, NamedSharding]:
    """{path: sharding} for {path: anything with .shape}."""
    return {path: NamedSharding(mesh, spec_of(path, leaf.shape, mesh)) for path, leaf in shapes.items()}


def batch_sharding(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, BATCH)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def check_batch(batch_size: int, accumulation: int, mesh: Mesh) -> None:
    """ValueError unless every micro-batch divides over the devices that hold rows."""
    holders = mesh.shape["data"] * mesh.shape["fsdp"]
    if (batch_size // accumulation) % holders:
        raise ValueError(
            f"a batch of {batch_size} rows in {accumulation} parts does not divide over {holders} devices "
            f"(data x fsdp); use a multiple of {holders * accumulation}"
        )


def local_rows(batch_size: int, mesh: Mesh) -> slice:
    """The rows of a global batch that this process's devices hold."""
    index = batch_sharding(mesh).addressable_devices_indices_map((batch_size,))
    bounds = [rows[0].indices(batch_size) for rows in index.values()]
    return slice(min(start for start, _, _ in bounds), max(stop for _, stop, _ in bounds))


def put_batch(batch, batch_size: int, mesh: Mesh):
    """This process's rows (a pytree of arrays [b, ...]) as global arrays of `batch_size` rows."""
    sharding = batch_sharding(mesh)

    def put(rows):
        return jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))

    return jax.tree.map(put, batch)
