# SPDX-License-Identifier: Apache-2.0
import argparse
import dataclasses

import pytest

from convert.__main__ import parser as convert_parser
from ditfuse_jax.cli.fuse import parse
from ditfuse_jax.config import CheckpointConfig, SamplingConfig, TransformerConfig, VAEConfig
from ditfuse_jax.inference import settings

CONFIG = CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny())


def test_every_field_but_the_shapes_is_an_option():
    fields = [field.name for field in dataclasses.fields(SamplingConfig)]
    assert [*settings.NAMES, "shapes"] == fields
    assert list(settings.values(SamplingConfig())) == list(settings.as_text(SamplingConfig()))


def test_both_commands_take_every_option_as_a_flag():
    fuse = parse([], "fuse")
    trained = convert_parser("convert").parse_args(["from-train", "run", "folder"])
    for flags in (fuse, trained):
        assert settings.given(flags) == {}
    named = parse(["--max-side", "64", "--guidance", "1"], "fuse")
    assert settings.given(named) == {"max_side": 64, "guidance": 1.0}


def test_flags_have_the_types_of_their_fields():
    parser = argparse.ArgumentParser()
    settings.add_flags(parser)
    flags = [
        part
        for name, value in settings.as_text(SamplingConfig()).items()
        for part in ("--" + name.replace("_", "-"), value)
    ]
    assert settings.given(parser.parse_args(flags)) == settings.values(SamplingConfig())


def test_the_callers_options_go_over_the_checkpoints():
    proposed = dataclasses.replace(CONFIG.sampling, steps=4, noises=2)
    config = dataclasses.replace(CONFIG, sampling=proposed)
    chosen = settings.choose(config, {"steps": None, "guidance": 1})
    assert chosen == dataclasses.replace(proposed, guidance=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 3}, r"unknown option 'step' \(did you mean steps\?\)"),
        ({"shapes": None}, "unknown option 'shapes'"),
        ({"steps": "3"}, "options.steps: '3' is not of type int"),
        ({"steps": 0}, "steps 0 is not a whole number from 1 to 10,000"),
        ({"steps": 1.5}, "options.steps: 1.5 is not of type int"),
        ({"steps": 10**11}, "steps 100000000000 is not a whole number from 1 to 10,000"),
        ({"noises": 10**11}, "noises 100000000000 is not a whole number from 1 to 1,000"),
        ({"guidance": float("inf")}, "guidance inf is not a number from -100 to 100"),
        ({"image_guidance": float("nan")}, "image_guidance nan is not a number from -100 to 100"),
        ({"guidance": 10**400}, "options.guidance: an integer of 1329 bits is not of type float"),
        ({"fidelity": float("nan")}, "fidelity nan is not a number from 0 to 1"),
        ({"max_side": 10**11}, "max_side 100000000000 is not a whole number from 16 to 100,000"),
        ({"max_side": 1025}, "max_side 1025 is over 1024 pixels, the longest side that this checkpoint"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        settings.choose(CONFIG, options)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "1.5"], "'1.5' is not a whole number"),
        (["--seed", "-1"], "seed -1 is not a whole number from 0 to 18,446,744,073,709,551,615"),
        (["--seed", str(2**64)], "seed 18446744073709551616 is not a whole number from 0 to"),
        (["--seed", "9" * 5000], "999 ... (4,882 more characters) is not a whole number"),
        (["--steps", "1.5"], "'1.5' is not a whole number"),
        (["--guidance", "two"], "'two' is not a number"),
    ],
)
def test_flags_that_are_no_numbers_end_the_command_in_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(flags, "fuse")
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert message in last
    assert len(last) < 250
