# SPDX-License-Identifier: Apache-2.0
"""The networks of the paper's Fig. 3: transformer, autoencoder, adapters, flow matching."""
