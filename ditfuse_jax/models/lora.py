# SPDX-License-Identifier: Apache-2.0
"""Linear layers, and low-rank adapters on them (paper eq. 3): live, or merged into the kernels."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from ditfuse_jax.config import LoraConfig, TransformerConfig
from ditfuse_jax.ops.int8 import int8_matmul, runs
from ditfuse_jax.ops.products import matmul


class LoRAParam(nnx.Variable):
    """A weight of an adapter. Not an nnx.Param, so that a filter for the base never catches it."""


class Linear(nnx.Module):
    """x W (+ b) with W [in, out]; float32 out, multiplied in the compute dtype."""

    def __init__(
        self,
        num_in: int,
        num_out: int,
        *,
        use_bias: bool = True,
        init=None,
        dtype: str,
        param_dtype,
        rngs: nnx.Rngs,
    ):
        init = init or nnx.initializers.lecun_normal()
        self.dtype = dtype
        self.kernel = nnx.Param(init(rngs.params(), (num_in, num_out), param_dtype))
        self.bias = nnx.Param(jnp.zeros((num_out,), param_dtype)) if use_bias else None

    def __call__(self, x: jax.Array) -> jax.Array:
        y = checkpoint_name(self.product(x), "linear")
        return y if self.bias is None else y + jnp.broadcast_to(self.bias[...].astype(jnp.float32), y.shape)

    def product(self, x: jax.Array) -> jax.Array:
        return matmul(x, self.kernel[...], self.dtype)


class LoRALinear(Linear):
    """x W + scale * x A B (+ b) with A [in, r] and B [r, out].

    A starts as N(0, 1 / r) and B as zero (PEFT's "gaussian"), so the adapter starts as nothing.
    """

    def __init__(self, num_in: int, num_out: int, *, lora: LoraConfig, rngs: nnx.Rngs, **linear):
        super().__init__(num_in, num_out, rngs=rngs, **linear)
        self.scale = lora.scale
        self.lora_a = LoRAParam(jax.random.normal(rngs.params(), (num_in, lora.rank)) / lora.rank)
        self.lora_b = LoRAParam(jnp.zeros((lora.rank, num_out)))

    def product(self, x: jax.Array) -> jax.Array:
        low = checkpoint_name(self.scale * matmul(x, self.lora_a[...], self.dtype), "linear")
        return super().product(x) + matmul(low, self.lora_b[...], self.dtype)


class Int8Linear(Linear):
    """x W with W of kernel int8 [in, out] and step float32 [runs, out]; from a file, never trained."""

    def __init__(self, num_in: int, num_out: int, **linear):
        super().__init__(num_in, num_out, **linear)
        self.kernel, self.step = _int8(num_in, num_out)

    def product(self, x: jax.Array) -> jax.Array:
        return int8_matmul(x, self.kernel[...], self.step[...], self.dtype)


class Int8LoRALinear(LoRALinear):
    """`Int8Linear` with a live adapter, which stays in floating point."""

    def __init__(self, num_in: int, num_out: int, **linear):
        super().__init__(num_in, num_out, **linear)
        self.kernel, self.step = _int8(num_in, num_out)

    def product(self, x: jax.Array) -> jax.Array:
        low = self.scale * matmul(x, self.lora_a[...], self.dtype)
        base = int8_matmul(x, self.kernel[...], self.step[...], self.dtype)
        return base + matmul(low, self.lora_b[...], self.dtype)


def _int8(num_in: int, num_out: int) -> tuple[nnx.Param, nnx.Param]:
    step = jnp.ones((runs(num_in), num_out), jnp.float32)
    return nnx.Param(jnp.zeros((num_in, num_out), jnp.int8)), nnx.Param(step)


def block_linear(cfg: TransformerConfig, name: str, num_in: int, num_out: int, **linear) -> Linear:
    """The linear layer `name` of a block: with a live adapter where cfg.lora targets it."""
    linear = {"use_bias": False, "dtype": cfg.dtype, **linear}
    if cfg.lora is not None and name in cfg.lora.targets:
        kind = Int8LoRALinear if cfg.int8 else LoRALinear
        return kind(num_in, num_out, lora=cfg.lora, **linear)
    return (Int8Linear if cfg.int8 else Linear)(num_in, num_out, **linear)


def merge(params: dict, adapter: dict, lora: LoraConfig) -> dict:
    """Adds an adapter to base kernels: W + scale * A B, computed in float32 and returned in W's dtype.

    Args:
      params: flat {path: array}; kernels `layers.<linear>.kernel` [L, in, out].
      adapter: flat {path: array}; each target has `layers.<linear>.lora_a` [L, in, r] and `.lora_b`
        [L, r, out].

    Raises ValueError when an adapter tensor is missing, unknown or does not fit its kernel.
    """
    check_fit(params, adapter, lora)
    merged = dict(params)
    for name in lora.targets:
        a, b = (adapter[f"layers.{name}.{part}"] for part in ("lora_a", "lora_b"))
        kernel = params[f"layers.{name}.kernel"]
        merged[f"layers.{name}.kernel"] = _merged(kernel, a, b, lora.scale)
    return merged


def check_fit(params: dict, adapter: dict, lora: LoraConfig) -> None:
    """ValueError, as in `merge`, unless an adapter is whole and has the shapes of the kernels in params."""
    wanted = {f"layers.{name}.{part}" for name in lora.targets for part in ("lora_a", "lora_b")}
    if wrong := sorted(wanted ^ adapter.keys()):
        raise ValueError(
            f"the adapter and its targets {', '.join(lora.targets)} differ in {', '.join(wrong)}"
        )
    for name in lora.targets:
        a, b = (adapter[f"layers.{name}.{part}"] for part in ("lora_a", "lora_b"))
        kernel = params[f"layers.{name}.kernel"]
        if kernel.shape != (a.shape[0], a.shape[1], b.shape[2]) or a.shape[2] != b.shape[1]:
            raise ValueError(
                f"layers.{name}: adapter {a.shape} x {b.shape} does not fit the kernel {kernel.shape}; "
                "it was trained for another model"
            )


@jax.jit
def _merged(kernel, a, b, scale):
    """One layer after the other: in float32 all layers of a large model would be gigabytes."""

    def layer(parts):
        kernel, a, b = (x.astype(jnp.float32) for x in parts)
        return (kernel + scale * jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)).astype(parts[0].dtype)

    return jax.lax.map(layer, (kernel, a, b))
