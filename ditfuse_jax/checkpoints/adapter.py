# SPDX-License-Identifier: Apache-2.0
"""A LoRA adapter folder, ours or PEFT's, as stacked arrays; and back to PEFT's names.

ours   adapter.json {"format", "version", "lora", "provenance"}, adapter.safetensors with
       layers.<linear>.lora_a [L, in, r] and layers.<linear>.lora_b [L, r, out]
PEFT   adapter_config.json, adapter_model.safetensors with
       base_model.model.llm.layers.N.<module>.lora_A.weight [r, in] and lora_B.weight [out, r]
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ditfuse_jax.checkpoints.folder import is_finite
from ditfuse_jax.checkpoints.layout import ADAPTER_CONFIG as CONFIG_FILE
from ditfuse_jax.checkpoints.layout import ADAPTER_FILE as TENSOR_FILE
from ditfuse_jax.checkpoints.layout import ADAPTER_FORMAT as FORMAT
from ditfuse_jax.checkpoints.layout import ADAPTER_VERSION as VERSION
from ditfuse_jax.checkpoints.layout import PEFT_CONFIG, PEFT_TENSORS
from ditfuse_jax.checkpoints.safetensors import open_tensors, save_tensors
from ditfuse_jax.checkpoints.target import new_folder
from ditfuse_jax.config import LINEARS, LoraConfig, closest, from_dict, to_dict
from ditfuse_jax.text import quoted, read_json

PEFT_MODULES = dict(
    zip(LINEARS, ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"), strict=True)
)
PEFT_NAME = re.compile(r"base_model\.model\.llm\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight")
# Settings that change nothing about what the stored tensors mean.
HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
    "target_modules", "exclude_modules", "lora_dropout", "megatron_core", "loftq_config", "eva_config",
    "layers_pattern", "runtime_config", "ensure_weight_tying", "qalora_group_size",
}  # fmt: skip
FLOATS = ("float32", "bfloat16", "float16")
# Settings that do, with the one value that we can honour.
FIXED = {"peft_type": "LORA", "bias": "none"}
INITS = (
    True,
    False,
    "gaussian",
    "eva",
    "orthogonal",
    None,
)  # the others (PiSSA, OLoRA, ...) change the base weights


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


PEFT_TYPES = {
    "r": (
        lambda value: _is_number(value) and 0 < value <= 65_536 and value == int(value),
        "a positive whole number",
    ),
    "lora_alpha": (lambda value: _is_number(value) and 0 < value <= 1e6, "a positive number"),
    "use_rslora": (lambda value: value is None or isinstance(value, bool), "true or false"),
}


class Adapter(NamedTuple):
    tensors: dict[str, np.ndarray]  # layers.<linear>.lora_a [L, in, r] and .lora_b [L, r, out] of each target
    lora: LoraConfig
    provenance: dict


def read_adapter(folder: Path) -> Adapter:
    """Reads a converted or a PEFT adapter folder; raises ValueError naming the file and its fault."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"no adapter folder {folder}; it should hold {PEFT_CONFIG} and {PEFT_TENSORS}")
    if (folder / CONFIG_FILE).is_file():
        return _read_own(folder)
    if (folder / PEFT_CONFIG).is_file():
        return _read_peft(folder)
    raise ValueError(
        f"{folder} has neither {CONFIG_FILE} nor {PEFT_CONFIG}, so it is no adapter; "
        f"download {PEFT_CONFIG} and {PEFT_TENSORS} into it"
    )


def save_adapter(
    folder: Path,
    lora: LoraConfig,
    tensors: Mapping[str, np.ndarray],
    *,
    provenance: Mapping,
    sources: Sequence[Path] = (),
    overwrite: bool = False,
) -> None:
    """Writes an adapter folder of our own kind; `sources` are the folders it comes from."""
    values = {"format": FORMAT, "version": VERSION, "lora": to_dict(lora), "provenance": dict(provenance)}
    with new_folder(folder, sources=sources, overwrite=overwrite) as partial:
        save_tensors(partial / TENSOR_FILE, tensors, {"format": FORMAT})
        (partial / CONFIG_FILE).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _read_own(folder: Path) -> Adapter:
    values = read_json(folder / CONFIG_FILE)
    if (values.get("format"), values.get("version")) != (FORMAT, VERSION):
        raise ValueError(
            f"{folder / CONFIG_FILE} is not of format {FORMAT} {VERSION}; convert the adapter again"
        )
    lora = from_dict(LoraConfig, values.get("lora", {}), where=str(folder / CONFIG_FILE))
    tensors = _tensors(folder / TENSOR_FILE)
    wanted = {f"layers.{name}.{part}" for name in lora.targets for part in ("lora_a", "lora_b")}
    if wrong := sorted(wanted ^ tensors.keys()):
        raise ValueError(
            f"{folder / TENSOR_FILE} and the targets of {CONFIG_FILE} differ in {', '.join(wrong)}"
        )
    wrong = [
        f"{name} {x.shape}"
        for name, x in tensors.items()
        if x.ndim != 3 or x.shape[2 if name.endswith("a") else 1] != lora.rank
    ]
    if wrong:
        raise ValueError(
            f"{folder / CONFIG_FILE} says rank {lora.rank}, and {TENSOR_FILE} holds {', '.join(wrong)}; "
            "convert the adapter again"
        )
    return Adapter(tensors, lora, values.get("provenance", {}))


def _read_peft(folder: Path) -> Adapter:
    settings = read_json(folder / PEFT_CONFIG)
    check_peft(settings, folder / PEFT_CONFIG)
    path = folder / PEFT_TENSORS
    if not path.is_file() and (folder / "adapter_model.bin").is_file():
        raise ValueError(
            f"{folder / 'adapter_model.bin'} is a pickle, which can run any code when it is opened; "
            f"get {PEFT_TENSORS}, or save the adapter again with PEFT's safe_serialization=True"
        )
    tensors = from_peft(_tensors(path), path)
    targets = tuple(name for name in LINEARS if f"layers.{name}.lora_a" in tensors)
    rank = tensors[f"layers.{targets[0]}.lora_a"].shape[-1]
    if rank != settings.get("r", 8):  # 8 is PEFT's default
        raise ValueError(
            f"{path} holds rank {rank}, {PEFT_CONFIG} says {settings.get('r', 8)}; download both again"
        )
    alpha = float(settings.get("lora_alpha", 8))
    lora = LoraConfig(rank=rank, alpha=alpha, rslora=bool(settings.get("use_rslora")), targets=targets)
    return Adapter(tensors, lora, {"source_config": settings})


def _tensors(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; the adapter folder is incomplete, download or convert it again")
    tensors = open_tensors(path)
    problems = [
        f"{name} is {array.dtype.name}, none of {', '.join(FLOATS)}"
        for name, array in tensors.items()
        if array.dtype.name not in FLOATS
    ]
    problems += [f"{name} holds NaN or infinity" for name, array in tensors.items() if not _whole(array)]
    if problems:
        raise ValueError(f"{path} is no usable adapter; get it again:\n  " + "\n  ".join(problems))
    return tensors


def _whole(array: np.ndarray) -> bool:
    return array.dtype.name not in FLOATS or is_finite(array)


def check_peft(settings: Mapping, path: Path) -> None:
    """Raises one ValueError with all settings of a PEFT adapter that we neither honour nor may ignore."""
    known = HARMLESS | FIXED.keys() | {"r", "lora_alpha", "use_rslora", "init_lora_weights"}
    problems = [
        f"{key} is {quoted(settings[key])}, which is not {what}"
        for key, (fits, what) in PEFT_TYPES.items()
        if key in settings and not fits(settings[key])
    ]
    for key, wanted in FIXED.items():
        if settings.get(key, wanted) != wanted:
            problems.append(f"{key} is {quoted(settings[key])}, only {wanted!r} is supported")
    if settings.get("init_lora_weights") not in INITS:
        problems.append(
            f"init_lora_weights is {quoted(settings['init_lora_weights'])}, which changes the base weights; "
            "convert it to a plain LoRA with PEFT first"
        )
    for key, value in settings.items():
        if key not in known and value not in (None, False, "", 0) and value != {} and value != []:
            problems.append(f"{quoted(key)[1:-1]} is {quoted(value)}, which this library does not support")
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems) + "; use a plain LoRA adapter")


def from_peft(source: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Stacks PEFT's tensors over layers; raises ValueError listing all names and shapes that do not fit."""
    modules = {module: name for name, module in PEFT_MODULES.items()}
    found: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    problems = []
    for key, array in source.items():
        match = PEFT_NAME.fullmatch(key)
        if match is None or match[2] not in modules:
            problems.append(f"{key}: no linear layer of the blocks has this name{closest(key, _examples())}")
            continue
        found[f"layers.{modules[match[2]]}.lora_{match[3].lower()}"][int(match[1])] = array.T
    if not found:
        raise ValueError(
            f"{path}: none of its {len(source)} tensors targets this model (the first is "
            f"{next(iter(source), 'missing')}); expected names such as {_examples()[0]}"
        )
    problems += _incomplete(found)
    if problems:
        raise ValueError(f"{path} is not a LoRA of this model:\n  " + "\n  ".join(problems))
    return {path: np.stack([layers[n] for n in range(len(layers))]) for path, layers in sorted(found.items())}


def _examples() -> list[str]:
    return [f"base_model.model.llm.layers.0.{module}.lora_A.weight" for module in PEFT_MODULES.values()]


def _incomplete(found: Mapping[str, Mapping[int, np.ndarray]]) -> list[str]:
    """Sentences on missing layers, missing halves and shapes that differ between layers or halves."""
    depth = 1 + max(n for layers in found.values() for n in layers)
    ranks = {
        layers[n].shape[-1 if path.endswith("lora_a") else 0]
        for path, layers in found.items()
        for n in layers
    }
    problems = (
        [f"its tensors have several ranks {sorted(ranks)}; one rank is supported"] if len(ranks) > 1 else []
    )
    for path, layers in sorted(found.items()):
        other = path[:-1] + ("b" if path.endswith("a") else "a")
        if other not in found:
            problems.append(f"{path}: its partner {other} is missing")
        if missing := sorted(set(range(depth)) - layers.keys()):
            problems.append(f"{path}: layers {missing} are missing")
        if len(shapes := {array.shape for array in layers.values()}) > 1:
            problems.append(f"{path}: its layers have different shapes {sorted(shapes)}")
    return problems


def to_peft(adapter: Adapter) -> tuple[dict, dict[str, np.ndarray]]:
    """adapter_config.json and the tensors of PEFT: the inverse of reading them."""
    tensors = {}
    for path, array in adapter.tensors.items():
        name, half = path.removeprefix("layers.").rsplit(".lora_", 1)
        for n, matrix in enumerate(array):
            key = f"base_model.model.llm.layers.{n}.{PEFT_MODULES[name]}.lora_{half.upper()}.weight"
            tensors[key] = np.ascontiguousarray(np.asarray(matrix).T)
    return adapter.provenance.get("source_config") or _peft_settings(adapter.lora), tensors


def _peft_settings(lora: LoraConfig) -> dict:
    """What PEFT needs to load an adapter that was trained here."""
    alpha = int(lora.alpha) if lora.alpha.is_integer() else lora.alpha
    return {
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": {"base_model_class": "OmniGen", "parent_library": "OmniGen.model"},
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "use_rslora": lora.rslora,
        "use_dora": False,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": "gaussian",
        "modules_to_save": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": [PEFT_MODULES[name].split(".")[-1] for name in lora.targets],
    }
