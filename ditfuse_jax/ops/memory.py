# SPDX-License-Identifier: Apache-2.0
"""How much memory a device has."""

import os

import jax


def device_bytes(device: jax.Device) -> int | None:
    """What JAX may take of it; of the CPU all that the machine has. None where the backend does not say."""
    if device.platform == "cpu":
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return (device.memory_stats() or {}).get("bytes_limit")
