# SPDX-License-Identifier: Apache-2.0
"""Checkpoint and adapter folders: read, verified, written."""
