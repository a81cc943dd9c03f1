# SPDX-License-Identifier: Apache-2.0
"""Starting weights of the demo's autoencoder: `python configs/demo_recipe/linear_start.py FOLDER`.

They are a linear skeleton of the network, trained first because that is cheap.

With second convolutions of zero every resnet is its shortcut, and the network is linear but for the norm and
SiLU before each closing convolution. Those are linear too on channels that come as x and -x, since
silu(x) - silu(-x) = x, beside two constants +M and -M that fix the norm's variance.
"""

import argparse
import functools
import sys
from collections.abc import Iterable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ditfuse_jax.checkpoints.folder import VAE_FILE, VAE_FORMAT, write_vae_config
from ditfuse_jax.checkpoints.safetensors import save_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import VAEConfig
from ditfuse_jax.data.loader import make_loader
from ditfuse_jax.data.sources import data_root
from ditfuse_jax.image import to_pixels
from ditfuse_jax.models.vae import nearest
from ditfuse_jax.prompt import load_tokenizer
from ditfuse_jax.training.config import TrainConfig, load
from ditfuse_jax.training.initial import trained_weights
from ditfuse_jax.training.sharding import make_mesh, parse_mesh
from ditfuse_jax.training.start import find_data

CONSTANT = 8.0  # M; pixels and codes are near 1, so the variance hardly depends on them
LOGVAR = -9.0  # of the codes at the start
STEPS = 3000
LEARNING_RATE = 4e-3  # of the skeleton
WARMUP = 50
DIMS = ("NHWC", "HWIO", "NHWC")

Kernels = dict[str, jax.Array]


def linear_start(params: Kernels, cfg: VAEConfig, images: Iterable[np.ndarray], *, steps: int) -> Kernels:
    """`params` (dot paths of a freshly initialised `VAE`) with a trained linear skeleton put into them.

    Args: images: `steps` batches, uint8 [B, H, W, 3].
    The widths must leave room for the skeleton: `check_room`.
    """
    kernels = skeleton(cfg, jax.random.key(0))
    tx = optax.adam(optax.warmup_cosine_decay_schedule(0.0, LEARNING_RATE, WARMUP, max(steps, WARMUP + 1)))
    opt_state = tx.init(kernels)
    for _, batch in zip(range(steps), images, strict=False):
        kernels, opt_state = _step(kernels, opt_state, batch, tx=tx)
    return embed(params, kernels, cfg)


def check_room(cfg: VAEConfig) -> None:
    """ValueError when the widths leave no room for the skeleton."""
    widths, codes = cfg.block_out_channels, cfg.latent_channels
    first, last = widths[0], widths[-1]
    if cfg.norm_groups != 1 or first < 8 or last < 2 * codes + 2:
        raise ValueError(
            f"the linear start needs norm_groups 1 (not {cfg.norm_groups}), first width >= 8 "
            f"(not {first}) and last width >= {2 * codes + 2} (not {last}); change them"
        )
    if first == widths[1] or last == widths[-2]:  # the outermost shortcuts carry the skeleton
        raise ValueError(
            f"the linear start needs outer widths unlike their neighbours, not {widths}; change them"
        )


def skeleton(cfg: VAEConfig, key: jax.Array) -> Kernels:
    """Fresh kernels: strided ones that keep a whole 2 x 2 block while there is room, a code, the way back."""
    widths, codes = cfg.block_out_channels, cfg.latent_channels
    init = jax.nn.initializers.orthogonal()
    keys = iter(jax.random.split(key, 2 * len(widths) + 2))
    down = (3, *widths[:-1])
    up = (widths[-1], *widths[-2:0:-1], 3)  # widths behind each upsampling convolution
    kernels = {"code": init(next(keys), (down[-1], codes))}
    for i, (a, b) in enumerate(zip(down, down[1:], strict=False)):
        block = init(next(keys), (2, 2, a, b))
        kernels[f"down.{i}"] = jnp.pad(block, ((0, 1), (0, 1), (0, 0), (0, 0)))
    fan_in = jax.nn.initializers.lecun_normal()
    kernels["in"] = fan_in(next(keys), (3, 3, codes, up[0]))
    for i, (a, b) in enumerate(zip(up, up[1:], strict=False)):
        kernels[f"up.{i}"] = fan_in(next(keys), (3, 3, a, b))
    return kernels


def round_trip(kernels: Kernels, pixels: jax.Array) -> jax.Array:
    """Pixels [B, H, W, 3] through the skeleton and back."""
    x, stages = pixels, sum(name.startswith("down") for name in kernels)
    for i in range(stages):
        x = conv(x, kernels[f"down.{i}"], stride=2, pad=(0, 1))
    x = conv(x @ kernels["code"], kernels["in"])
    for i in range(stages):
        x = conv(nearest(x), kernels[f"up.{i}"])
    return x


def conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1, pad: tuple[int, int] = (1, 1)) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), (pad, pad), dimension_numbers=DIMS)


@functools.partial(jax.jit, static_argnames="tx", donate_argnums=(0, 1))
def _step(kernels: Kernels, opt_state, images: jax.Array, *, tx):
    def loss(kernels):
        pixels = to_pixels(images)
        error = jnp.square(round_trip(kernels, pixels) - pixels).mean(axis=(1, 2, 3))
        return jnp.sqrt(error + 1e-6).mean()

    updates, opt_state = tx.update(jax.grad(loss)(kernels), opt_state, kernels)
    return optax.apply_updates(kernels, updates), opt_state


def embed(params: Kernels, kernels: Kernels, cfg: VAEConfig) -> Kernels:
    """The whole network that computes what the skeleton does; what it does not use stays random."""
    new = {name: np.array(value) for name, value in params.items()}
    for name in new:
        if name.endswith(("conv2.kernel", "attn.out.kernel")) or name.startswith(("quant", "post_quant")):
            new[name][:] = 0
        if name.endswith("shortcut.kernel"):
            new[name][:] = np.eye(*new[name].shape[-2:])
    stages, codes = len(cfg.block_out_channels) - 1, cfg.latent_channels
    new["quant.kernel"][0, 0], new["post_quant.kernel"][0, 0] = np.eye(2 * codes), np.eye(codes)
    new["encoder.conv_in.kernel"][:, :, :, :3] = 0
    new["encoder.conv_in.kernel"][1, 1, :, :3] = np.eye(3)
    for i in range(stages):
        down, up = np.asarray(kernels[f"down.{i}"]), np.asarray(kernels[f"up.{i}"])
        into = new[f"encoder.down.{i}.downsample.kernel"]
        into[:] = 0
        into[:, :, : down.shape[2], : down.shape[3]] = down
        new[f"decoder.up.{i}.upsample.kernel"][..., : up.shape[3]] = up
    new["decoder.conv_in.kernel"][:] = kernels["in"]
    _close(new, f"encoder.down.{stages}", "encoder", np.asarray(kernels["code"]))
    new["encoder.conv_out.bias"][codes:] = LOGVAR
    rgb = np.zeros((new[f"decoder.up.{stages}.resnets.0.shortcut.kernel"].shape[-2], 3), np.float32)
    rgb[:3] = np.eye(3)
    _close(new, f"decoder.up.{stages}", "decoder", rgb)
    return {name: jnp.asarray(value) for name, value in new.items()}


def _close(new: dict[str, np.ndarray], block: str, half: str, signal: np.ndarray) -> None:
    """Lets the last shortcut give (x, -x, M, -M) with x = input @ signal, and the closing layers x."""
    kernel, bias = (new[f"{block}.resnets.0.shortcut.{part}"] for part in ("kernel", "bias"))
    count, channels = signal.shape[1], kernel.shape[-1]
    kernel[:], bias[:] = 0, 0
    kernel[0, 0, : signal.shape[0], : 2 * count] = np.concatenate([signal, -signal], axis=1)
    bias[2 * count : 2 * count + 2] = CONSTANT, -CONSTANT
    spread = np.sqrt(2 * CONSTANT**2 / channels)  # that the norm divides by
    new[f"{half}.norm_out.scale"][:], new[f"{half}.norm_out.bias"][:] = 1, 0
    out = new[f"{half}.conv_out.kernel"]
    out[:] = 0
    out[1, 1, :count, :count] = spread * np.eye(count)
    out[1, 1, count : 2 * count, :count] = -spread * np.eye(count)
    new[f"{half}.conv_out.bias"][:] = 0


def write(config: TrainConfig, target: Path, data: Path, *, steps: int) -> None:
    """Trains the skeleton on the targets of the run's first batches and writes an autoencoder folder."""
    check_room(config.vae)
    found = find_data(config, data, load_tokenizer(config.tokenizer_folder))
    params = trained_weights(config, make_mesh(parse_mesh("")))
    bucket = found.mixture.config.buckets[0]
    side = config.vae_training.crop or min(bucket.height, bucket.width)
    with new_folder(target, sources=[data]) as partial:
        with make_loader(found.mixture, found.tokenizer, batch_size=config.batch_size) as loader:
            images = (middle(batch.target, side) for batch in loader)
            params = linear_start(params, config.vae, images, steps=steps)
        save_tensors(partial / VAE_FILE, params, {"format": VAE_FORMAT})
        write_vae_config(partial, config.vae, {"source": f"linear start of {config.name}, {steps} steps"})


def middle(images: np.ndarray, side: int) -> np.ndarray:
    """The central square of images [B, H, W, 3]."""
    top, left = ((size - side) // 2 for size in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, help="where the weights go, for --set init=FOLDER")
    parser.add_argument("--config", type=Path, default=Path(__file__).parents[1] / "demo_vae.py")
    parser.add_argument("--data", type=Path, help="data root (default: $DITFUSE_DATA, else ../shared/data)")
    parser.add_argument("--steps", type=int, default=STEPS)
    flags = parser.parse_args(arguments)
    try:
        write(load(flags.config), flags.folder, data_root(flags.data), steps=flags.steps)
    except (ValueError, OSError) as error:
        print(f"linear_start.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
