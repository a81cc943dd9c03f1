# SPDX-License-Identifier: Apache-2.0
"""Settings of published checkpoints (Phi3Config, OmniGenTransformer2DModel, AutoencoderKL) as ours, and back.

Every key is read, known to be harmless, or refused: a key that we ignore could change the network.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ditfuse_jax.config import PATCH, POSITION_GRID, TransformerConfig, VAEConfig
from ditfuse_jax.text import quoted

HUGE = 1e12  # beyond any number of a network

# Of transformers' base class and of generation: they say nothing about the network's arithmetic.
HARMLESS = {
    "architectures", "auto_map", "transformers_version", "torch_dtype", "dtype", "initializer_range",
    "use_cache",
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "tie_word_embeddings", "model_type",
    "resid_pdrop", "embd_pdrop", "attention_dropout", "output_attentions", "output_hidden_states",
    "return_dict",
    "use_return_dict", "torchscript", "gradient_checkpointing", "chunk_size_feed_forward", "is_decoder",
    "is_encoder_decoder", "id2label", "label2id", "problem_type", "finetuning_task", "task_specific_params",
    "pretraining_tp", "max_length", "min_length", "do_sample", "temperature", "top_k", "top_p", "num_beams",
    # The official attention (SDPA with its own mask) never looks at the window.
    "sliding_window", "layer_types", "max_window_layers", "use_sliding_window",
}  # fmt: skip
OFFICIAL = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
}
# Keys that matter and the only value of each that the network implements.
OFFICIAL_FIXED = {
    "hidden_act": "silu", "partial_rotary_factor": 1.0, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
OFFICIAL_OPTIONAL = {
    "num_key_value_heads": None, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
}  # fmt: skip
DIFFUSERS = {**{k: v for k, v in OFFICIAL.items() if k != "num_hidden_layers"}, "num_layers": "num_layers"}
DIFFUSERS_FIXED = {
    "patch_size": PATCH, "pos_embed_max_size": POSITION_GRID, "time_step_dim": 256, "flip_sin_to_cos": True,
    "downscale_freq_shift": 0, "timestep_activation_fn": "silu", "_class_name": "OmniGenTransformer2DModel",
}  # fmt: skip
DIFFUSERS_OPTIONAL = {
    "num_key_value_heads": None, "rms_norm_eps": 1e-5, "rope_base": 10000, "in_channels": 4,
    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
}  # fmt: skip
ROPE_TYPES = ("su", "yarn", "longrope")  # Phi3Config reads the first two as the third
ROPE_MOVED = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")  # in transformers 5
VAE_FIXED = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "out_channels": 3,
    "use_quant_conv": True,
    "use_post_quant_conv": True, "mid_block_add_attention": True, "latents_mean": None, "latents_std": None,
}  # fmt: skip
VAE_HARMLESS = {"sample_size", "force_upcast", "_diffusers_version", "_name_or_path"}
VAE_OPTIONAL = {
    "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 32, "scaling_factor": 0.18215,
}  # fmt: skip


def official_config(values: Mapping, path: Path, dtype: str) -> TransformerConfig:
    """OmniGen's config.json (a Phi3Config); raises one ValueError with all settings that do not fit."""
    if values.get("model_type", "phi3") != "phi3":
        raise ValueError(
            f"{path}: model_type is {quoted(values['model_type'])}, not 'phi3'; another model than OmniGen"
        )
    values, problems = _one_spelling(values)
    problems += _problems(values, OFFICIAL, OFFICIAL_FIXED, OFFICIAL_OPTIONAL, HARMLESS)
    return _transformer(values, OFFICIAL, OFFICIAL_OPTIONAL, problems, path, dtype)


def diffusers_config(values: Mapping, path: Path, dtype: str) -> TransformerConfig:
    """transformer/config.json of the diffusers layout."""
    harmless = {"pad_token_id", "_diffusers_version", "_name_or_path"}
    problems = _problems(values, DIFFUSERS, DIFFUSERS_FIXED, DIFFUSERS_OPTIONAL, harmless)
    return _transformer(values, DIFFUSERS, DIFFUSERS_OPTIONAL, problems, path, dtype)


def _problems(values: Mapping, needed, fixed, optional, harmless) -> list[str]:
    problems = [f"{key} is missing" for key in needed if key not in values]
    problems += [
        f"{key} is {quoted(values[key])}, only {wanted!r} is implemented"
        for key, wanted in fixed.items()
        if key in values and values[key] != wanted
    ]
    known = needed.keys() | fixed.keys() | optional.keys() | harmless | {"rope_scaling"}
    for key in values:
        if key not in known and not key.startswith("_attn_implementation") and key != "_name_or_path":
            advice = "" if "rope" in key else "; remove it if it does not"
            problems.append(
                f"{quoted(key)[1:-1]} = {quoted(values[key])} is unknown and could change the network{advice}"
            )
    return problems


def _transformer(values, needed, optional, problems, path, dtype) -> TransformerConfig:
    scaling, more = _rope_factors(values.get("rope_scaling"))
    problems = problems + more
    numbers = {key: values.get(key, default) for key, default in optional.items()}
    numbers |= {key: values[key] for key in needed if key in values}
    if not scaling and not more and _lost_factors(values, {needed[key]: values.get(key) for key in needed}):
        problems.append(
            "rope_scaling is missing: OmniGen needs its short and long factors, and without them this would "
            "be another network; take config.json as it was published"
        )
    for key, value in numbers.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= HUGE
        ):
            problems.append(f"{key} is {quoted(value)}, which is not a positive number up to {HUGE:g}")
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    try:
        return TransformerConfig(
            **{ours: numbers[key] for key, ours in needed.items()},
            num_kv_heads=numbers["num_key_value_heads"] or numbers["num_attention_heads"],
            latent_channels=numbers.get("in_channels", 4),
            norm_eps=numbers["rms_norm_eps"],
            rope_theta=float(numbers.get("rope_theta", numbers.get("rope_base"))),
            max_length=numbers["max_position_embeddings"],
            original_length=numbers["original_max_position_embeddings"],
            dtype=dtype,
            **scaling,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _rope_factors(scaling) -> tuple[dict, list[str]]:
    """LongRoPE's two lists of factors, and what is wrong with them; plain RoPE without `rope_scaling`."""
    if scaling is None:
        return {}, []
    keys = {"type", "short_factor", "long_factor"}
    if not isinstance(scaling, dict) or scaling.keys() != keys:
        return {}, [
            f"rope_scaling must have exactly the keys {', '.join(sorted(keys))}, it is {quoted(scaling)}"
        ]
    if scaling["type"] not in ROPE_TYPES:
        return {}, [
            f"rope_scaling.type is {quoted(scaling['type'])}, only {', '.join(ROPE_TYPES)} are implemented"
        ]
    for key in ("short_factor", "long_factor"):
        numbers = scaling[key]
        if not isinstance(numbers, list) or not all(
            isinstance(n, int | float) and 0 < n <= HUGE for n in numbers
        ):
            return {}, [f"rope_scaling.{key} is not a list of positive numbers"]
    return {key: tuple(float(n) for n in scaling[key]) for key in ("short_factor", "long_factor")}, []


def _one_spelling(values: Mapping) -> tuple[dict, list[str]]:
    """The settings with `rope_scaling` and its `type` as transformers 4 writes them, and what contradicts.

    transformers 5 writes `rope_parameters`, with the settings ROPE_MOVED inside, and `rope_type`.
    """
    values, problems = dict(values), []
    new = values.pop("rope_parameters", None)
    if new is not None and not isinstance(new, dict):
        return values, [f"rope_parameters is {quoted(new)}, not a table"]
    new = {key: value for key, value in (new or {}).items() if value is not None}
    for key in ROPE_MOVED:
        if key in new and values.setdefault(key, new[key]) != new[key]:
            problems.append(f"{key} is {quoted(values[key])}, but {quoted(new[key])} in rope_parameters")
        new.pop(key, None)
    old = values.get("rope_scaling")
    tables = [_one_type(table, problems) for table in (old, new) if table and isinstance(table, dict)]
    if len(tables) == 2 and tables[0] != tables[1]:
        problems.append("rope_scaling and rope_parameters contradict each other")
    if tables:
        values["rope_scaling"] = None if tables[-1] == {"type": "default"} else tables[-1]
    return values, problems


def _one_type(table: dict, problems: list[str]) -> dict:
    """A table with `type` for `type`, `rope_type` or both."""
    named = [table[key] for key in ("type", "rope_type") if key in table]
    kinds = ["longrope" if kind in ROPE_TYPES else kind for kind in named]
    if any(kind != kinds[0] for kind in kinds):
        problems.append(f"type and rope_type of RoPE contradict each other: {quoted(named)}")
    rest = {key: value for key, value in table.items() if key not in ("type", "rope_type")}
    return rest | {"type": kinds[0]} if kinds else rest


def _lost_factors(values: Mapping, shape: Mapping) -> bool:
    """Whether settings without RoPE factors are OmniGen-v1's, or of a longer context that needs some.

    Only who writes `rope_scaling: null` says that there are none.
    """
    released = TransformerConfig.omnigen_v1()
    if all(shape[name] == getattr(released, name) for name in ("width", "num_layers", "num_heads")):
        return True
    longest, original = (values.get(f"{name}max_position_embeddings", 4096) for name in ("", "original_"))
    return "rope_scaling" not in values and longest != original


def phi3_config(cfg: TransformerConfig) -> dict:
    """OmniGen's config.json for a model that was not converted from one; the inverse of `official_config`."""
    scaling = None
    if cfg.short_factor:
        scaling = {"type": "su", "short_factor": list(cfg.short_factor), "long_factor": list(cfg.long_factor)}
    return {
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        **{key: getattr(cfg, ours) for key, ours in OFFICIAL.items()},
        "num_key_value_heads": cfg.num_kv_heads,
        "hidden_act": "silu",
        "rms_norm_eps": cfg.norm_eps,
        "rope_theta": cfg.rope_theta,
        "rope_scaling": scaling,
        "max_position_embeddings": cfg.max_length,
        "original_max_position_embeddings": cfg.original_length,
        "tie_word_embeddings": False,
    }


def vae_config(values: Mapping, path: Path) -> VAEConfig:
    """config.json of a diffusers AutoencoderKL; raises one ValueError with all settings that do not fit."""
    needed = {"block_out_channels": "block_out_channels"}
    blocks = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
    optional = VAE_OPTIONAL | {"shift_factor": None}
    problems = _problems(values, needed, VAE_FIXED, optional, VAE_HARMLESS | blocks.keys())
    for key, wanted in blocks.items():
        if any(kind != wanted for kind in values.get(key) or [wanted]):
            problems.append(f"{key} is {quoted(values[key])}, only {wanted} is implemented")
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    numbers = {key: values.get(key, default) for key, default in VAE_OPTIONAL.items()}
    try:
        return VAEConfig(
            latent_channels=numbers["latent_channels"],
            block_out_channels=tuple(values["block_out_channels"]),
            layers_per_block=numbers["layers_per_block"],
            norm_groups=numbers["norm_num_groups"],
            scaling_factor=float(numbers["scaling_factor"]),
            shift_factor=float(values.get("shift_factor") or 0.0),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def original_vae_config(
    arrays: Mapping[str, np.ndarray], path: Path, scaling_factor: float | None
) -> VAEConfig:
    """Settings of an autoencoder file that comes without a config, from the names and shapes of its tensors.

    The scaling factor is not in them: by default SDXL's, or Stable Diffusion's beside its text encoder.
    """
    shapes = {key.removeprefix("first_stage_model."): array.shape for key, array in arrays.items()}
    widths: dict[int, int] = {}
    depth = 0
    for key, shape in shapes.items():
        if match := re.fullmatch(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight", key):
            widths[int(match[1])] = shape[0]
            depth = max(depth, int(match[2]) + 1)
    if not widths or len(shapes.get("decoder.conv_in.weight", ())) != 4:
        raise ValueError(
            f"{path} holds no autoencoder in the original layout; name the file of the SDXL VAE, "
            "or the folder of one in the layout of diffusers"
        )
    stable_diffusion = any(key.startswith("cond_stage_model.") for key in arrays)
    try:
        return VAEConfig(
            latent_channels=shapes["decoder.conv_in.weight"][1],
            block_out_channels=tuple(widths[level] for level in sorted(widths)),
            layers_per_block=depth,
            scaling_factor=scaling_factor
            or (0.18215 if stable_diffusion else VAEConfig.sdxl().scaling_factor),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def autoencoder_config(cfg: VAEConfig) -> dict:
    """config.json of diffusers for an autoencoder that was not converted from one."""
    depth = len(cfg.block_out_channels)
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": list(cfg.block_out_channels),
        "down_block_types": ["DownEncoderBlock2D"] * depth,
        "in_channels": 3,
        "latent_channels": cfg.latent_channels,
        "layers_per_block": cfg.layers_per_block,
        "norm_num_groups": cfg.norm_groups,
        "out_channels": 3,
        "scaling_factor": cfg.scaling_factor,
        **({"shift_factor": cfg.shift_factor} if cfg.shift_factor else {}),
        "up_block_types": ["UpDecoderBlock2D"] * depth,
    }
