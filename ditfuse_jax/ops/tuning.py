# SPDX-License-Identifier: Apache-2.0
"""The one decision about the machine: how to compute what the model says, without changing what it says."""

from dataclasses import dataclass

ATTENTION = ("blocks", "plain", "cudnn", "splash")
# XLA:CPU would turn stacked bfloat16 weights into one float32 copy ahead of the loop over layers.
NO_HOIST = {
    "xla_disable_hlo_passes": "while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion"
}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Choices that change speed and memory, and results by rounding alone.

    The defaults run everywhere, on meshes too. `python benchmarks/tuning.py` prints what each choice brings
    on the machine it runs on. Raises ValueError for a value that does not exist.
    """

    # plain: all scores at once, differentiated by JAX; cudnn, splash: kernels, and blocks where they cannot
    attention: str = "blocks"
    max_scores: int = 2**27  # attention scores in memory at once
    hoists: bool = True  # XLA may convert stacked weights ahead of the loop over layers
    pictures: int = 8  # of a folder, whole ones, that go through the networks together, at most

    def __post_init__(self):
        if self.attention not in ATTENTION:
            raise ValueError(f"attention {self.attention!r} is not one of {', '.join(ATTENTION)}")
        for name in ("max_scores", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not positive; use 1 or more")

    @classmethod
    def choose(cls, backend: str, num_devices: int) -> "Tuning":
        """The choice for a program on `num_devices` devices of a backend ("cpu", "gpu", "tpu")."""
        if backend != "cpu":  # kernels are for one device: XLA cannot split them over a mesh by itself
            kernel = {"gpu": "cudnn", "tpu": "splash"}.get(backend, "blocks")
            return cls(attention=kernel if num_devices == 1 else "blocks")
        if num_devices > 1:  # blocks of scores go row after row, which would gather rows of other devices
            return cls(hoists=False, pictures=1)
        # 4 MB of scores stay near a core; the tokens of one picture fill all cores (benchmarks/folder.py)
        return cls(max_scores=2**20, hoists=False, pictures=1)

    def jit_options(self) -> dict:
        """Arguments of `jax.jit` for a program that loops over stacked weights."""
        return {} if self.hoists else {"compiler_options": NO_HOIST}


PORTABLE = Tuning()  # runs everywhere; what functions take where nothing was chosen
