# SPDX-License-Identifier: Apache-2.0
"""RoPE in a config of OmniGen: both spellings of transformers mean the same, and none is lost."""

import json
import re
from pathlib import Path

import pytest

from conftest import golden
from convert.configs import official_config, phi3_config
from ditfuse_jax.config import TransformerConfig


def transformers_5(values: dict, **rope) -> dict:
    """A config as transformers 5 writes it: RoPE in one table, some settings inside it."""
    scaling = values["rope_scaling"]
    table = {key: scaling[key] for key in ("short_factor", "long_factor")} | {"rope_type": "longrope"}
    table |= {"rope_theta": values["rope_theta"], "partial_rotary_factor": 1.0}
    table |= {"original_max_position_embeddings": values["original_max_position_embeddings"], **rope}
    moved = ("rope_scaling", "rope_theta", "original_max_position_embeddings")
    return {key: value for key, value in values.items() if key not in moved} | {"rope_parameters": table}


@pytest.mark.parametrize("name", ["ckpt_tiny", "ckpt_long"])
def test_rope_as_transformers_5_writes_it(name):
    values = json.loads((golden(name) / "config.json").read_text())
    wanted = official_config(values, Path("c"), "float32")
    assert wanted.short_factor
    scaling = values["rope_scaling"]
    both = scaling | {"rope_type": "longrope"}
    renamed = {key: value for key, value in both.items() if key != "type"}
    for same in (
        transformers_5(values),
        transformers_5(values, type="longrope"),
        transformers_5(values) | {"rope_scaling": both},
        values | {"rope_scaling": renamed},
        values | {"rope_scaling": both},
    ):
        assert official_config(same, Path("c"), "float32") == wanted


ROPE_ERRORS = {
    "type": (lambda v: transformers_5(v, rope_type="linear"), "rope_scaling.type is 'linear'"),
    "two types": (lambda v: transformers_5(v, type="linear"), "type and rope_type of RoPE contradict"),
    "theta": (lambda v: transformers_5(v) | {"rope_theta": 5.0}, "rope_theta is 5.0, but 10000.0 in rope_pa"),
    "two tables": (
        lambda v: transformers_5(v, long_factor=[3.0] * 8) | {"rope_scaling": v["rope_scaling"]},
        "contradict each other",
    ),
    "unknown": (lambda v: transformers_5(v, attention_factor=2.0), "rope_scaling must have exactly the keys"),
    "rotary": (lambda v: transformers_5(v, partial_rotary_factor=0.5), "partial_rotary_factor is 0.5"),
    "no table": (lambda v: v | {"rope_parameters": [1]}, "rope_parameters is [1], not a table"),
    "removed": (lambda v: {k: x for k, x in v.items() if k != "rope_scaling"}, "rope_scaling is missing"),
    "removed 5": (
        lambda v: transformers_5(v) | {"rope_parameters": None, "original_max_position_embeddings": 4096},
        "rope_scaling is missing",
    ),
}


@pytest.mark.parametrize("case", ROPE_ERRORS)
def test_rope_that_would_be_lost_or_misread_is_refused(case):
    change, message = ROPE_ERRORS[case]
    values = json.loads((golden("ckpt_tiny") / "config.json").read_text())
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        official_config(change(values), Path("c"), "float32")
    assert "remove it" not in str(error.value)


def test_the_released_size_without_factors_is_another_network():
    plain = phi3_config(TransformerConfig.omnigen_v1())
    with pytest.raises(ValueError, match="rope_scaling is missing: OmniGen needs"):
        official_config(plain, Path("c"), "bfloat16")
