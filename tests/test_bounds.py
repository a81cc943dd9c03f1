# SPDX-License-Identifier: Apache-2.0
import dataclasses
import typing

import numpy as np
import pytest

from ditfuse_jax.bounds import check_number
from ditfuse_jax.config import (
    CheckpointConfig,
    LoraConfig,
    SamplingConfig,
    ShapesConfig,
    TransformerConfig,
    VAEConfig,
    from_dict,
    to_dict,
)
from ditfuse_jax.data.config import Bucket, M3Config, MixtureConfig, SourceConfig
from ditfuse_jax.training.config import OptimConfig, TrainConfig, VAETraining

SOURCE = SourceConfig(name="a", path="a")
CONFIGS = (
    TransformerConfig.tiny(short_factor=(1.0,) * 8, long_factor=(2.0,) * 8, lora=LoraConfig()),
    VAEConfig.tiny(),
    ShapesConfig(step=16, max_side=64),
    SamplingConfig(),
    LoraConfig(),
    M3Config(),
    Bucket(height=32, width=32),
    SOURCE,
    MixtureConfig(sources=(SOURCE,)),
    OptimConfig(),
    VAETraining(),
    TrainConfig(
        name="a",
        model=TransformerConfig.tiny(),
        vae=VAEConfig.tiny(),
        mixture=MixtureConfig(sources=(SOURCE,)),
        steps=1,
        batch_size=1,
    ),
)
WRONG = (-(10**12), 10**400, float("nan"), float("inf"), float("-inf"), 1e300)


def numbers(config) -> list[tuple[str, bool]]:
    """The fields that hold numbers, and whether they are lists of them."""
    kinds = typing.get_type_hints(type(config))
    single = [(name, False) for name, kind in kinds.items() if kind in (int, float)]
    lists = [(name, True) for name, kind in kinds.items() if {int, float} & set(typing.get_args(kind))]
    return single + lists


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_every_number_of_every_config_has_bounds(config):
    """One sentence for each: none is taken, none is a traceback of another kind, none is long."""
    for name, many in numbers(config):
        for value in WRONG:
            values = to_dict(config) | {name: [value] * 2 if many else value}
            with pytest.raises(ValueError, match=name) as error:
                from_dict(type(config), values, where="config.json")
            assert len(str(error.value)) < 400, name
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vae": {"block_out_channels": [16] * 30, "norm_groups": 8}}, "has 30 levels, more than 8"),
        (
            {"vae": {"layers_per_block": 10**9}},
            "layers_per_block 1000000000 is not a whole number from 1 to 16",
        ),
        (
            {"sampling": {"shapes": {"step": 16, "max_side": 64, "exact": [[16, 16]] * 200_000}}},
            "is longer than",
        ),
        ({"sampling": {"x" * 10**6: 1}}, "unknown key 'xxx.*more characters"),
        ({"sampling": [[[[]]]]}, "is not a table"),
        ({"sampling": {"steps": "9" * 10**6}}, "sampling.steps: '999.*more characters"),
        ({"model": None}, "None is not a table"),
    ],
)
def test_a_config_from_a_file_ends_in_one_short_sentence(change, message):
    config = CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny())
    values = to_dict(config)
    for name, part in change.items():
        values[name] = values[name] | part if isinstance(part, dict) else part
    with pytest.raises(ValueError, match=message) as error:
        from_dict(CheckpointConfig, values)
    assert len(str(error.value)) < 400


def test_numbers_of_numpy_and_both_ends_are_taken():
    for value in (1, 10, np.int64(5), np.uint8(10)):
        check_number("steps", value, 1, 10, whole=True)
    check_number("share", np.float32(0.5), 0, 1, whole=False)
    assert dataclasses.replace(SamplingConfig(), steps=10_000).steps == 10_000
