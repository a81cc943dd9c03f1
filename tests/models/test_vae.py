# SPDX-License-Identifier: Apache-2.0
"""The autoencoder against diffusers, its layouts of weights, its size, and its attention in chunks."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from conftest import golden
from convert import engine
from convert.configs import original_vae_config, vae_config
from convert.vae import SINGLE_FILE, vae_rules
from ditfuse_jax.config import VAEConfig
from ditfuse_jax.models import outline
from ditfuse_jax.models.vae import VAE, attend

TOLERANCE = 5e-5  # of the reference's README, max abs in float32
CASES = [("ckpt_tiny/vae", "vae_sdxl_like"), ("vae_shift", "vae_shift")]


class Case(NamedTuple):
    cfg: VAEConfig
    source: dict  # diffusers tensors
    reference: dict  # what diffusers computes from them


@pytest.fixture(scope="module", params=CASES, ids=lambda pair: pair[1])
def case(request) -> Case:
    folder, name = golden(request.param[0]), golden(f"vae/{request.param[1]}.npz")
    cfg = vae_config(json.loads((folder / "config.json").read_text()), folder)
    return Case(cfg, load_file(folder / "diffusion_pytorch_model.safetensors"), dict(np.load(name)))


@pytest.fixture(scope="module")
def vae(case) -> VAE:
    return built(case.source, case.cfg)


def shapes(cfg: VAEConfig) -> dict[str, tuple[int, ...]]:
    abstract = outline.vae(cfg)
    return {".".join(map(str, path)): leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(abstract))}


def converted(source: dict, cfg: VAEConfig) -> dict[str, np.ndarray]:
    plan = engine.plan(source, vae_rules(cfg), shapes(cfg))
    return {path: engine.layer(source, layers[0])[0] for path, layers in plan.items()}


def built(source: dict, cfg: VAEConfig) -> VAE:
    """The autoencoder with `source` put in by the real rules."""
    params = converted(source, cfg)
    graph, state = nnx.split(outline.vae(cfg))
    leaves = [
        (path, leaf.replace(jnp.asarray(params[".".join(map(str, path))])))
        for path, leaf in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(leaves))


def random_vae(cfg: VAEConfig) -> VAE:
    return nnx.jit(lambda: VAE(cfg, rngs=nnx.Rngs(0)))()


@nnx.jit
def encode(vae: VAE, pixels: jax.Array) -> jax.Array:
    return vae.encode(pixels)


def nhwc(x) -> jax.Array:
    return jnp.asarray(np.moveaxis(x, 1, -1))


def close(ours, theirs):
    np.testing.assert_allclose(ours, nhwc(theirs), atol=TOLERANCE, rtol=0)


def test_posterior_equals_reference(case, vae):
    mean, logvar = vae.moments(nhwc(case.reference["image"]))
    close(mean, case.reference["mean"])
    close(logvar, case.reference["logvar"])
    close(jnp.exp(0.5 * logvar), case.reference["std"])


def test_latents_are_the_mode_shifted_and_scaled(case, vae):
    """The reference's own latents were drawn, with the noise in the file; ours are the mode."""
    reference, shift = case.reference, np.nan_to_num(case.reference["shift_factor"])
    latents = vae.encode(nhwc(reference["image"]))
    close(latents, (reference["mean"] - shift) * reference["scaling_factor"])
    drawn = latents / case.cfg.scaling_factor + case.cfg.shift_factor
    drawn += nhwc(reference["std"] * reference["sample_noise"])
    close((drawn - case.cfg.shift_factor) * case.cfg.scaling_factor, reference["model_latent"])


def test_pixels_equal_reference(case, vae):
    reference, cfg = case.reference, case.cfg
    for code, pixels in (("mean", "decoded_mean"), ("latent", "decoded")):
        latents = (nhwc(reference[code]) - cfg.shift_factor) * cfg.scaling_factor
        close(vae.decode(latents), reference[pixels])
    image = np.clip(vae.decode(nhwc(reference["model_latent"])) * 0.5 + 0.5, 0.0, 1.0) * 255.0
    away = np.abs(np.trunc(image) - reference["decoded_sample_uint8"])  # the reference truncates
    assert away.max() <= 1
    assert away.mean() < 0.005


def test_middle_of_encoder_and_decoder_equal_reference(case, vae):
    x = vae.encoder.conv_in(nhwc(case.reference["image"][:1]))
    for block in vae.encoder.down:
        x = block(x)
    close(vae.encoder.mid(x), case.reference["enc_mid"])
    code = vae.post_quant(nhwc(case.reference["latent"][:1]))
    close(vae.decoder.mid(vae.decoder.conv_in(code)), case.reference["dec_mid"])


OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def with_old_names(source: dict) -> dict:
    renamed = {}
    for key, value in source.items():
        for new, old in OLD_ATTENTION.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[key] = value
    return renamed


def as_original(source: dict, levels: int) -> dict:
    """Tensors of diffusers under the names and shapes of the original code, written down independently."""
    renamed = {}
    for key, value in source.items():
        if "attentions.0.to_" in key and key.endswith("weight"):
            value = value[:, :, None, None]
        key = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        key = key.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        for new, old in {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            key = key.replace(f"mid_block.attentions.0.{new}.", f"mid.attn_1.{old}.")
        for index in range(2):
            key = key.replace(f"mid_block.resnets.{index}.", f"mid.block_{index + 1}.")
        for level in range(levels):
            key = key.replace(f"encoder.down_blocks.{level}.", f"encoder.down.{level}.")
            key = key.replace(f"decoder.up_blocks.{level}.", f"decoder.up.{levels - 1 - level}.")
        key = key.replace(".resnets.", ".block.")
        key = key.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")
        renamed[key] = value
    return renamed


def assert_same(ours: dict, theirs: dict):
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_array_equal(array, theirs[path])


def test_old_attention_names_fill_the_same_parameters(case):
    renamed = with_old_names(case.source)
    assert renamed.keys() != case.source.keys()
    assert_same(converted(renamed, case.cfg), converted(case.source, case.cfg))


@pytest.mark.parametrize("prefix", ["", SINGLE_FILE])
def test_original_layout_fills_the_same_parameters(case, prefix, tmp_path):
    original = as_original(case.source, len(case.cfg.block_out_channels))
    original = {prefix + key: value for key, value in original.items()}
    cfg = original_vae_config(original, tmp_path, None)
    assert cfg.block_out_channels == case.cfg.block_out_channels
    assert (cfg.layers_per_block, cfg.latent_channels) == (
        case.cfg.layers_per_block,
        case.cfg.latent_channels,
    )
    if prefix:
        original = {
            **original,
            "model.diffusion_model.out.2.bias": np.zeros(4, np.float32),
        }  # another network
    assert_same(converted(original, cfg), converted(case.source, case.cfg))


def test_weights_come_back_bit_for_bit(case):
    """What is ours, written in the diffusers layout again."""
    assert_same(engine.invert(converted(case.source, case.cfg), vae_rules(case.cfg)), case.source)


def test_conversion_names_a_missing_and_an_unknown_tensor(case):
    source = {**case.source, "encoder.extra.weight": np.zeros(1, np.float32)}
    del source["decoder.conv_in.bias"]
    with pytest.raises(ValueError, match="encoder.extra.weight") as error:
        converted(source, case.cfg)
    assert "decoder.conv_in.bias" in str(error.value)


def test_a_file_in_another_layout_is_refused(case, tmp_path):
    with pytest.raises(ValueError, match="original layout"):
        original_vae_config(case.source, tmp_path, None)


def resnet_size(channels: int, out: int) -> int:
    norms, convolutions = 2 * channels + 2 * out, 9 * out * (channels + out) + 2 * out
    return norms + convolutions + (out * channels + out if channels != out else 0)


def size(cfg: VAEConfig) -> int:
    """Number of parameters by the arithmetic of the layers."""
    widths, code = cfg.block_out_channels, cfg.latent_channels
    top = widths[-1]
    mid = 2 * resnet_size(top, top) + 4 * (top * top + top) + 2 * top
    encoder = 27 * widths[0] + widths[0] + mid + 2 * top + 9 * top * 2 * code + 2 * code
    decoder = 9 * code * top + top + mid + 2 * widths[0] + 27 * widths[0] + 3
    encoder += blocks_size(widths, cfg.layers_per_block)
    decoder += blocks_size(widths[::-1], cfg.layers_per_block + 1)
    return encoder + decoder + 4 * code * code + 2 * code + code * code + code


def blocks_size(widths, layers: int) -> int:
    total, before = 0, widths[0]
    for width in widths:
        total += resnet_size(before, width) + (layers - 1) * resnet_size(width, width)
        before = width
    return total + sum(9 * width * width + width for width in widths[:-1])


def parameters(cfg: VAEConfig) -> int:
    return sum(int(np.prod(shape)) for shape in shapes(cfg).values())


def test_full_size_has_the_parameters_of_the_released_autoencoder():
    assert parameters(VAEConfig.sdxl()) == size(VAEConfig.sdxl()) == 83_653_863


@pytest.mark.parametrize(
    "cfg",
    [
        VAEConfig.tiny(),
        VAEConfig.tiny(latent_channels=16, layers_per_block=3),
        VAEConfig(block_out_channels=(8, 24), norm_groups=4, latent_channels=3, shift_factor=0.5),
    ],
)
def test_any_settings_give_shapes_and_sizes_that_fit(cfg):
    assert parameters(cfg) == size(cfg)
    pixels = jax.ShapeDtypeStruct((2, 2 * cfg.factor, 3 * cfg.factor, 3), jnp.float32)

    def both_ways(pixels):
        vae = VAE(cfg, rngs=nnx.Rngs(0))
        latents = vae.encode(pixels)
        return latents, vae.decode(latents)

    latents, decoded = jax.eval_shape(both_ways, pixels)
    assert latents.shape == (2, 2, 3, cfg.latent_channels)
    assert decoded == pixels


def test_result_is_independent_of_batch_mates():
    vae = random_vae(VAEConfig.tiny())
    pixels = jax.random.uniform(jax.random.key(0), (3, 16, 24, 3), minval=-1.0)
    alone = jnp.concatenate([encode(vae, row[None]) for row in pixels])
    np.testing.assert_allclose(encode(vae, pixels), alone, atol=1e-6, rtol=0)  # sums in another order


@pytest.mark.parametrize("chunk", [4, 5, 7])
def test_attention_in_chunks_equals_attention_at_once(chunk):
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 20, 8))
    bias = jnp.where(jnp.arange(20) < 17, 0.0, -1e30)
    np.testing.assert_allclose(attend(q, k, v, bias, chunk=chunk), attend(q, k, v, bias), atol=1e-6, rtol=0)
    seen = attend(q, k[:, :17], v[:, :17], jnp.zeros(17))
    np.testing.assert_allclose(attend(q, k, v, bias), seen, atol=1e-6, rtol=0)


def test_attention_never_holds_all_scores():
    """16384 tokens (1024 px): the scores at once would be 1 GiB."""
    tokens = jax.ShapeDtypeStruct((1, 16384, 8), jnp.float32)
    bias = jax.ShapeDtypeStruct((16384,), jnp.float32)
    memory = jax.jit(attend).lower(tokens, tokens, tokens, bias).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**28


def test_a_side_that_does_not_fit_is_named():
    vae = outline.vae(VAEConfig.tiny())
    with pytest.raises(ValueError, match="width 20 is not a multiple of 8; pad or crop"):
        vae.moments(jnp.zeros((1, 16, 20, 3)))
