# SPDX-License-Identifier: Apache-2.0
"""From image files and an instruction to a fused picture."""
