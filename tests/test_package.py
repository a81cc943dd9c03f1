# SPDX-License-Identifier: Apache-2.0
"""The package's front: lazy exports and settings that check themselves."""

import subprocess
import sys

import pytest

import ditfuse_jax
from ditfuse_jax.config import CheckpointConfig, TransformerConfig, VAEConfig, from_dict, to_dict
from ditfuse_jax.models.mask import attention_mask


def test_import_is_light():
    """nnx, transformers, grain and orbax cost 0.3 to 0.8 s each, so none of them comes with the package."""
    heavy = "{'flax', 'transformers', 'grain', 'orbax', 'optax', 'cv2'}"
    code = (
        "import time, jax, sys; start = time.process_time(); import ditfuse_jax; "
        f"spent = time.process_time() - start; print(spent < 0.5, sorted({heavy} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "True []"


def test_every_export_exists():
    for name in ditfuse_jax.__all__:
        assert getattr(ditfuse_jax, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ditfuse_jax.nothing  # noqa: B018


def test_config_survives_json():
    config = CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny())
    assert from_dict(CheckpointConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widht": 3}, r"config\.model: unknown key 'widht' \(did you mean width\?\)"),
        ({"width": "wide"}, r"config\.model\.width: 'wide' is not of type int"),
        ({"width": 65}, "width 65 is not a multiple of num_heads 4"),
        ({"dtype": "float16"}, "dtype 'float16' is not one of float32, bfloat16"),
    ],
)
def test_bad_settings_are_named(change, message):
    values = to_dict(CheckpointConfig(model=TransformerConfig.tiny(), vae=VAEConfig.tiny()))
    values["model"] |= change
    with pytest.raises(ValueError, match=message):
        from_dict(CheckpointConfig, values)


def test_mask_of_text_image_time_target():
    #  one word, a 2-patch image, the time token, a 2-patch target
    import jax.numpy as jnp
    import numpy as np

    mask = attention_mask(jnp.array([[1, 3, 3, 4, 6, 6]]), jnp.array([0]), 6)
    drawn = ["X.....", "XXX...", "XXX...", "XXXX..", "XXXXXX", "XXXXXX"]
    np.testing.assert_array_equal(mask[0], [[c == "X" for c in row] for row in drawn])
