# SPDX-License-Identifier: Apache-2.0
"""Trains the autoencoder, the transformer or an adapter: python train.py --config configs/demo.py --mesh 8"""

import sys

from ditfuse_jax.cli import environment

if __name__ == "__main__":
    environment.for_training()  # before JAX is imported
    from ditfuse_jax.cli.train import main

    sys.exit(main(sys.argv[1:]))
