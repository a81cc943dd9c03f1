# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run, their dotted overrides, and the differences that forbid resuming."""

import ast
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from ditfuse_jax import places
from ditfuse_jax.bounds import check
from ditfuse_jax.config import DEMO, TransformerConfig, VAEConfig, closest, from_dict, one_of, to_dict
from ditfuse_jax.data.config import MOST_SIDE, MixtureConfig

POSITIVE = (
    "steps",
    "batch_size",
    "draws",
    "log_every",
    "save_every",
    "keep",
    "validation_batches",
    "picture_rows",
    "picture_steps",
)


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW or Muon with clipping, a warm-up and a schedule; all counted in optimizer steps."""

    kind: str = "adamw"  # adamw | muon (kernels of the blocks; the rest by AdamW)
    learning_rate: float = 1e-4  # official train.py default
    schedule: str = "constant"  # constant | cosine (to zero at the last step)
    warmup_steps: int = 0
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0  # official train.py: AdamW without decay
    clip_norm: float = 1.0  # official train.py; 0: no clipping
    accumulation: int = 1  # micro-batches per step
    ema_decay: float = 0.0  # 0: no moving average

    def __post_init__(self):
        one_of("optim.kind", self.kind, ("adamw", "muon"))
        one_of("optim.schedule", self.schedule, ("constant", "cosine"))
        rates = {
            "learning_rate": (1e-30, 1e30),
            "eps": (0, 1),
            "weight_decay": (0, 10),
            "clip_norm": (0, 1e9),
        }
        decays = dict.fromkeys(("beta1", "beta2", "ema_decay"), (0, 1 - 1e-9))
        check(self, warmup_steps=(0, 10**9), accumulation=(1, 10**6), **rates, **decays)


@dataclass(frozen=True, kw_only=True)
class VAETraining:
    """The autoencoder: its loss (1 - rmse) L1 + rmse RMSE + edges E + kl KL of an image."""

    crop: int = 0  # pixels of the square windows that the loss is taken on; 0: whole images
    rmse: float = 0.5  # share of the root mean square error, which PSNR measures
    kl: float = 1e-6
    edges: float = 0.5  # weight of the L1 between neighbouring-pixel differences
    sources: float = 0.25  # share of images that are (degraded) sources instead of targets

    def __post_init__(self):
        check(self, crop=(0, MOST_SIDE), rmse=(0, 1), sources=(0, 1), kl=(0, 1e6), edges=(0, 1e6))
        if self.crop % 8:
            raise ValueError(f"vae_training.crop {self.crop} is not a multiple of 8")


@dataclass(frozen=True, kw_only=True)
class DistilConfig:
    """Guidance folded into one branch: the adapter learns what its base answers with all three branches."""

    guidance: float = 2.0  # both scales of the teacher: those of the official test script
    image_guidance: float = 1.6
    share: float = 0.5  # of the teacher's answer in the target velocity; the rest is the data's, x_1 - x_0

    def __post_init__(self):
        check(self, guidance=(-100, 100), image_guidance=(-100, 100), share=(0, 1))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run. Stage vae trains the autoencoder, model the transformer or, with model.lora, its adapter."""

    name: str
    model: TransformerConfig
    vae: VAEConfig
    mixture: MixtureConfig  # the batch of step n is a function of (mixture, batch_size, n)
    steps: int
    batch_size: int  # rows of one optimizer step over all devices, accumulation included
    draws: int = 1  # times and noises of each row in a step; they share one pass over its condition
    zero_time: float = (
        0.0  # share of the draws with t = 0 exactly, where a sampler of one step is; 0: official
    )
    stage: str = "model"  # vae | model
    init: str = ""  # checkpoint folder of the starting weights; "": random
    needs_init: bool = False  # refuses an empty init
    init_vae: str = ""  # checkpoint folder of the frozen VAE; "": the one of init, else random
    tokenizer: str = ""  # tokenizer folder; "": the one of init, else the shipped demo's
    frozen_dtype: str = "float32"  # of parameters that are not trained
    seed: int = 0  # of initial weights, times and noise
    optim: OptimConfig = OptimConfig()
    vae_training: VAETraining = VAETraining()
    distil: DistilConfig | None = None
    workers: int = 0  # data processes; 0: threads of this one
    log_every: int = 10
    save_every: int = 500
    keep: int = 2  # newest checkpoints; the best by validation is kept besides
    validate_every: int = 0  # 0: never
    validation_batches: int = 2
    picture_rows: int = 4
    picture_steps: int = 8  # Euler steps of the picture grid

    def __post_init__(self):
        one_of("stage", self.stage, ("vae", "model"))
        one_of("frozen_dtype", self.frozen_dtype, ("float32", "bfloat16"))
        check(self, **dict.fromkeys(POSITIVE, (1, 10**9)), zero_time=(0, 1), seed=(0, 2**32 - 1))
        check(self, batch_size=(1, 10**6), draws=(1, 1024), workers=(0, 1024), validate_every=(0, 10**9))
        check(self, picture_rows=(1, 64), picture_steps=(1, 10_000))
        if self.model.int8:
            raise ValueError(
                f"{self.init or 'the model'} holds int8 weights, which do not train; start from the folder "
                "that it was quantized from"
            )
        if self.distil:
            check_distil(self)
        if self.stage == "vae" and self.draws > 1:
            raise ValueError(f"draws {self.draws}: the autoencoder has no times to draw; use 1")
        if self.stage == "vae" and self.mixture.varied:
            raise ValueError(
                "the autoencoder trains on whole buckets; leave least_height and least_width out"
            )
        if self.batch_size % self.optim.accumulation:
            parts = self.optim.accumulation
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of optim.accumulation {parts}")
        if self.model.latent_channels != self.vae.latent_channels:
            raise ValueError(
                f"model.latent_channels {self.model.latent_channels} and vae.latent_channels "
                f"{self.vae.latent_channels} differ; set both"
            )

    @property
    def tokenizer_folder(self) -> Path:
        own = self.init if self.stage == "model" else ""  # an autoencoder's folder has no tokenizer
        return Path(self.tokenizer or own or DEMO)


def check_distil(config: TrainConfig) -> None:
    """ValueError unless the base can teach the adapter: every row needs its condition, and one draw."""
    if config.stage != "model" or not config.model.lora:
        raise ValueError("distil: the frozen base teaches an adapter; set model.lora, or distil=None")
    if config.draws > 1:
        raise ValueError(f"draws {config.draws}: distil takes one draw of a row; set draws=1")
    if config.mixture.condition_dropout or config.mixture.text_dropout:
        raise ValueError("distil: the student is the cond branch alone; set mixture's dropouts to 0")


# Settings of earlier versions that runs may have stored: what they did lies before the first step.
RETIRED = (("vae_training", "linear_steps"),)

# May change between stopping and resuming: what is shown and kept, and folders, which may move.
FREE = (*POSITIVE[3:], "workers", "validate_every", "init", "needs_init", "init_vae", "tokenizer")


def load(path: Path) -> TrainConfig:
    """The `config` of a run file; ValueError for an error in it, and when the file or the name is missing."""
    if not path.is_file():
        known = sorted(file.stem for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise ValueError(f"no config file {path}{closest(path.stem, known)}; the runs are configs/*.py")
    config = places.assigned(path).get("config")
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{path} does not assign `config = TrainConfig(...)`")
    return config


def override(config: TrainConfig, assignments: list[str]) -> TrainConfig:
    """Applies `--set` assignments such as "optim.learning_rate=1e-4"; ValueError names what does not fit."""
    values = from_json(to_dict(config))
    for assignment in assignments:
        key, sign, text = assignment.partition("=")
        if not sign:
            raise ValueError(f"--set {assignment}: write KEY=VALUE, for example optim.learning_rate=1e-4")
        *parents, last = _known(values, key).split(".")
        table = values
        for parent in parents:
            table = table[int(parent) if isinstance(table, list) else parent]
        table[last] = _value(text)
    return from_dict(TrainConfig, values, where="--set")


def flat(values: dict, prefix: str = "") -> dict:
    """Nested settings as {dotted name: value}."""
    result = {}
    for name, value in values.items():
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            value = dict(enumerate(value))  # mixture.sources.0.weight
        result |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def saved_config(values: dict, *, where: str) -> TrainConfig:
    """The settings that a run stored, also those of an older version; ValueError naming what does not fit."""
    values = json.loads(json.dumps(values))
    for table, name in RETIRED:
        if isinstance(values.get(table), dict):
            values[table].pop(name, None)
    return from_dict(TrainConfig, values, where=where)


def differences(saved: dict, config: TrainConfig) -> list[str]:
    """What in `config` would make the saved run another run, one line per setting."""
    with contextlib.suppress(ValueError):  # settings that are gone since then show as differences
        saved = to_dict(saved_config(saved, where="saved"))  # those that came later had their defaults
    old, new = flat(from_json(saved)), flat(from_json(to_dict(config)))
    constant = {old.get("optim.schedule"), new.get("optim.schedule")} == {"constant"}
    free = {*FREE, "steps"} if constant else FREE  # a cosine ends with the last step: another run
    names = [name for name in sorted(old.keys() | new.keys()) if name not in free]
    return [
        f"{name}: {old.get(name, 'not set')} -> {new.get(name, 'not set')}"
        for name in names
        if old.get(name, "not set") != new.get(name, "not set")
    ]


def from_json(values):
    """Tuples as lists, as JSON gives them back."""
    if isinstance(values, dict):
        return {name: from_json(value) for name, value in values.items()}
    return [from_json(value) for value in values] if isinstance(values, list | tuple) else values


def _known(values: dict, key: str) -> str:
    """`key` if it names one value."""
    names = flat(values)
    if key not in names:
        raise ValueError(f"--set {key}: no such setting{closest(key, names)}")
    return key


def _value(text: str):
    """A Python literal, true/false/none in any case, or the text itself."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
