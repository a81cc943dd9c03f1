# SPDX-License-Identifier: Apache-2.0
"""Flags and calls of every command: what `ditfuse`, infer.py and train.py run."""
