# SPDX-License-Identifier: Apache-2.0
"""Frozen, self-checking settings of the networks, of sampling and of LoRA, and their JSON form."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from pathlib import Path

from ditfuse_jax import bounds
from ditfuse_jax.bounds import check_number
from ditfuse_jax.text import quoted

DEMO = Path(__file__).parent / "demo"  # the checkpoint folder that ships with the package
PATCH = 2  # latent cells per patch side
VAE_FACTOR = 8  # pixels per latent cell side of the released VAE (three 2x down-samplings)
POSITION_GRID = 192  # side of the sin-cos position table, in patches
LINEARS = ("attn.qkv", "attn.out", "mlp.gate_up", "mlp.down")  # the linear layers of a block


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} {quoted(value)} is not one of {', '.join(choices)}")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """A low-rank adapter: W + scale * A B (paper eq. 3).

    scale = alpha / rank; alpha / sqrt(rank) with rsLoRA.
    """

    rank: int = 64
    alpha: float = 64.0
    rslora: bool = False
    targets: tuple[str, ...] = LINEARS  # the paper: all linear layers of the blocks

    def __post_init__(self):
        check_number("LoRA rank", self.rank, 1, 65_536, whole=True)
        check_number("LoRA alpha", self.alpha, 1e-6, 1e6, whole=False)
        wrong = [name for name in self.targets if name not in LINEARS]
        if wrong or not self.targets:
            raise ValueError(
                f"LoRA targets {self.targets} must be a non-empty choice of {', '.join(LINEARS)}"
            )

    @property
    def scale(self) -> float:
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The OmniGen transformer: Phi-3 blocks over text, source patches, a time token and target patches."""

    vocab_size: int
    width: int  # D
    mlp_width: int  # F
    num_layers: int  # L
    num_heads: int  # N
    num_kv_heads: int
    latent_channels: int = 4
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_length: int = 131072
    original_length: int = 4096
    short_factor: tuple[float, ...] = ()  # LongRoPE factors, one per rotated pair; empty: plain RoPE
    long_factor: tuple[float, ...] = ()
    position_table: bool = False  # True: a stored table that differs from the computed sin-cos one
    dtype: str = "float32"  # of the matmuls; their sums, norms and the residual stream are float32
    remat: str = "none"  # none | block | attention (keep attention outputs, recompute the rest)
    lora: LoraConfig | None = None  # live adapters inside the linear layers
    int8: bool = False  # kernels of the blocks' linear layers are int8, see ops/int8.py

    def __post_init__(self):
        sizes = dict.fromkeys(("vocab_size", "width", "mlp_width"), (1, 10**7))
        counts = dict.fromkeys(("num_layers", "num_heads", "num_kv_heads", "latent_channels"), (1, 10**4))
        lengths = {"max_length": (1, 10**8), "original_length": (2, 10**8)}
        factors = dict.fromkeys(("short_factor", "long_factor"), (1e-6, 1e6))
        bounds.check(self, norm_eps=(0, 1), rope_theta=(1, 1e12), **sizes, **counts, **lengths, **factors)
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2 or self.width % 4:
            raise ValueError(
                f"head width {self.head_dim} must be even and width {self.width} a multiple of 4"
            )
        for name in ("short_factor", "long_factor"):
            factors = getattr(self, name)
            if factors and len(factors) != self.head_dim // 2:
                raise ValueError(
                    f"{name} has {len(factors)} values, head width {self.head_dim} needs {self.head_dim // 2}"
                )
        if bool(self.short_factor) != bool(self.long_factor):
            raise ValueError("short_factor and long_factor must be given together")
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        one_of("remat", self.remat, ("none", "block", "attention"))

    @property
    def head_dim(self) -> int:
        return self.width // self.num_heads

    @property
    def patch_dim(self) -> int:
        return PATCH * PATCH * self.latent_channels

    @classmethod
    def tiny(cls, **changes) -> "TransformerConfig":
        """The size that tests use; head width 16."""
        small = {
            "vocab_size": 512,
            "width": 64,
            "mlp_width": 128,
            "num_layers": 3,
            "num_heads": 4,
            "num_kv_heads": 4,
        }
        return cls(**(small | changes))

    @classmethod
    def omnigen_v1(cls, **changes) -> "TransformerConfig":
        """Shitao/OmniGen-v1. Its LongRoPE factors come from the config.json of the checkpoint."""
        released = {
            "vocab_size": 32064,
            "width": 3072,
            "mlp_width": 8192,
            "num_layers": 32,
            "num_heads": 32,
            "num_kv_heads": 32,
            "dtype": "bfloat16",
        }
        return cls(**(released | changes))


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """A KL autoencoder in the layout of Stable Diffusion (diffusers AutoencoderKL)."""

    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_groups: int = 32
    scaling_factor: float = 0.13025
    shift_factor: float = 0.0  # latents = (code - shift_factor) * scaling_factor

    def __post_init__(self):
        counts = {"latent_channels": (1, 10**4), "layers_per_block": (1, 16), "norm_groups": (1, 10**4)}
        bounds.check(self, block_out_channels=(1, 10**5), scaling_factor=(1e-6, 1e6), **counts)
        bounds.check(self, shift_factor=(-1e6, 1e6))
        if len(self.block_out_channels) > 8:
            raise ValueError(f"block_out_channels has {len(self.block_out_channels)} levels, more than 8")
        wrong = [c for c in self.block_out_channels if c % self.norm_groups]
        if wrong or not self.block_out_channels:
            raise ValueError(
                f"block_out_channels {self.block_out_channels} must be multiples of "
                f"norm_groups {self.norm_groups}"
            )

    @property
    def factor(self) -> int:
        """Pixels per latent cell side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def tiny(cls, **changes) -> "VAEConfig":
        small = {"block_out_channels": (16, 16, 32, 32), "layers_per_block": 1, "norm_groups": 8}
        return cls(**(small | changes))

    @classmethod
    def sdxl(cls) -> "VAEConfig":
        """stabilityai/sdxl-vae, which OmniGen-v1 ships."""
        return cls()


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """Picture sizes in pixels that a checkpoint was trained to fuse; others are padded to one of them.

    All multiples of `step` up to `max_side`; of these only the ones in `exact`, unless it is empty.
    """

    step: int
    max_side: int
    exact: tuple[tuple[int, ...], ...] = ()  # each height, width

    def __post_init__(self):
        bounds.check(self, step=(1, 100_000), max_side=(1, 100_000))
        if self.step > self.max_side:
            raise ValueError(f"step {self.step} is over max_side {self.max_side}")
        for shape in self.exact:
            if len(shape) != 2 or any(not 1 <= side <= self.max_side or side % self.step for side in shape):
                raise ValueError(
                    f"{list(shape)} is not [height, width] in multiples of step {self.step} "
                    f"up to max_side {self.max_side}"
                )

    @classmethod
    def only(cls, shapes, *, step: int) -> "ShapesConfig":
        """Exactly these (height, width), such as the buckets of a training run."""
        exact = tuple(sorted(set(shapes)))
        return cls(step=step, max_side=max(map(max, exact)), exact=exact)


TILES = ("auto", "on", "off")


def _option(default, help: str, choices: tuple[str, ...] | None = None):
    """A field of SamplingConfig that the caller of a fusion may set."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """What a checkpoint folder proposes where the caller says nothing, and the shapes that it can do.

    The one home of a sampling setting: the fields with a help text are flags of the fuse command and of
    `from-train`, keywords of `DiTFuse.fuse`, and lines of the plan and of the metadata of results.
    """

    steps: int = _option(50, "Euler steps from noise to image")
    guidance: float = _option(2.0, "text scale")  # both scales: of the official test script
    image_guidance: float = _option(1.6, "image scale")
    max_side: int = _option(
        1024, "pixels that go through the model; larger images are cut into tiles or scaled down"
    )
    noises: int = _option(
        1, "average the results of so many noises: less speckle, costs so many times the steps"
    )
    fidelity: float = _option(
        0.0, "0 to 1: how far the result is made of the pixels of the sources; 0: the model's own picture"
    )
    tiles: str = _option(
        "auto",
        "fuse larger images in tiles of native size; auto: with a fidelity above 0; off: scaled down",
        TILES,
    )
    shapes: ShapesConfig | None = None  # None, as in older folders: whole patches up to max_side

    def __post_init__(self):
        one_of("tiles", self.tiles, TILES)
        bounds.check(self, steps=(1, 10_000), noises=(1, 1_000), max_side=(16, 100_000), fidelity=(0, 1))
        bounds.check(self, guidance=(-100, 100), image_guidance=(-100, 100))


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """`config.json` of a checkpoint folder."""

    model: TransformerConfig
    vae: VAEConfig
    sampling: SamplingConfig = SamplingConfig()

    def __post_init__(self):
        if self.shapes.step % self.patch_side:
            raise ValueError(
                f"shapes: step {self.shapes.step} is not a multiple of a patch, {self.patch_side} pixels"
            )
        limit = POSITION_GRID * self.patch_side
        if self.shapes.max_side > limit:
            raise ValueError(
                f"max_side {self.shapes.max_side} is over {limit} pixels, the end of the position table; "
                "lower it"
            )
        self.check_side(self.sampling.max_side)

    @property
    def patch_side(self) -> int:
        """Pixels per patch side."""
        return PATCH * self.vae.factor

    @property
    def shapes(self) -> ShapesConfig:
        whole = ShapesConfig(step=self.patch_side, max_side=max(self.patch_side, self.sampling.max_side))
        return self.sampling.shapes or whole

    def check_side(self, max_side: int) -> None:
        """Raises ValueError for a longest side, in pixels, beyond what the checkpoint was trained at."""
        if max_side > self.shapes.max_side:
            raise ValueError(
                f"max_side {max_side} is over {self.shapes.max_side} pixels, the longest side that this "
                "checkpoint was trained at; leave it away: larger pictures are scaled down, fused and "
                "brought back"
            )


def closest(name: str, names) -> str:
    """` (did you mean ...?)` for an unknown name, or an empty string."""
    near = difflib.get_close_matches(name[:100], list(names), n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def to_dict(config) -> dict:
    """A config as plain JSON values; `from_dict` is its inverse."""
    return dataclasses.asdict(config)


def from_dict(cls, values: dict, *, where: str = "config"):
    """Builds a config dataclass from JSON values; raises ValueError naming each unknown or missing key.

    where: what the values are of, such as a file; every error begins with it.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: {quoted(values)} is not a table of settings")
    hints = typing.get_type_hints(cls)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise ValueError(f"{where}: unknown key {quoted(unknown[0])}{closest(unknown[0], hints)}")
    built = {key: _build(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    needed = [f.name for f in dataclasses.fields(cls) if _required(f) and f.name not in built]
    if needed:
        raise ValueError(f"{where}: missing key {', '.join(needed)}")
    try:
        return cls(**built)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _required(field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _build(hint, value, where: str):
    """One JSON value as the annotated type: a nested config, a tuple, an optional, or a scalar."""
    if isinstance(hint, types.UnionType):
        options = [arg for arg in typing.get_args(hint) if arg is not types.NoneType]
        return None if value is None else _build(options[0], value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where=where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where}: {quoted(value)} is not a list")
        if len(value) > bounds.MOST_ITEMS:
            raise ValueError(f"{where}: a list of {len(value):,} is longer than {bounds.MOST_ITEMS:,}")
        return tuple(_build(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and abs(value) < 2**53 and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {quoted(value)} is not of type {hint.__name__}")
    return value
