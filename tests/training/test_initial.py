# SPDX-License-Identifier: Apache-2.0
"""The weights a run starts from."""

import numpy as np
import pytest

import runs
from ditfuse_jax.checkpoints.folder import VAE_FILE
from ditfuse_jax.checkpoints.safetensors import save_tensors
from ditfuse_jax.training.initial import trained_weights
from ditfuse_jax.training.sharding import make_mesh, parse_mesh
from ditfuse_jax.training.trainable import shapes


def test_damaged_starting_weights_are_refused(tmp_path):
    """They would look like a run that diverges."""
    config, mesh = runs.config(stage="vae", init=str(tmp_path)), make_mesh(parse_mesh(""))
    values = {name: runs.some(name, leaf) for name, leaf in shapes(config)[0].items()}
    save_tensors(tmp_path / VAE_FILE, values, {})
    found = trained_weights(config, mesh)
    name = next(name for name in values if name.endswith("kernel"))
    np.testing.assert_array_equal(found[name], values[name])
    values[name].flat[0] = np.nan
    save_tensors(tmp_path / VAE_FILE, values, {})
    with pytest.raises(ValueError, match=f"holds NaN or infinity in {name}; copy or convert it again"):
        trained_weights(config, mesh)
