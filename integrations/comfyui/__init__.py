# SPDX-License-Identifier: Apache-2.0
"""DiTFuse in ComfyUI; ComfyUI reads the two names below. See README.md."""

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
