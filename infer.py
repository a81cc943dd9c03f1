# SPDX-License-Identifier: Apache-2.0
"""Fuse two registered images as an instruction says: python infer.py --prompt "..." --image1 A --image2 B."""

import sys

from ditfuse_jax.cli import environment

if __name__ == "__main__":
    environment.for_fusing()  # before JAX is imported
    from ditfuse_jax.cli.fuse import main

    sys.exit(main(sys.argv[1:]))
