# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from ditfuse_jax.inference.noise import key_of, normal

SHAPE = (4, 6, 4)


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1])
def test_seeds_of_32_bits_give_the_noise_of_jax_bit_for_bit(seed):
    """Results that were made before seeds had 64 bits can be made again."""
    for draw, key in ((0, jax.random.key(seed)), (2, jax.random.fold_in(jax.random.key(seed), 2))):
        count = 64 * 4 * 4  # a padded count of patches; a short draw is a prefix of a long one
        wanted = jax.random.normal(key, (count,))[: np.prod(SHAPE)].reshape(SHAPE)
        np.testing.assert_array_equal(normal(SHAPE, seed=seed, draw=draw), wanted)


def test_seeds_of_64_bits_are_not_folded_onto_others():
    seeds = [0, 1, 2**32, 2**32 + 1, 2**53, 2**63, 2**64 - 1, 2**32 - 1, np.uint64(2**40)]
    drawn = {normal(SHAPE, seed=seed).tobytes() for seed in seeds}
    assert len(drawn) == len(seeds)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, 1.0, float("nan"), 2**400, True, "1", None])
def test_other_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed .* is not a whole number from 0 to 18,446,744,073,"):
        key_of(seed)
