# SPDX-License-Identifier: Apache-2.0
"""Training runs: settings, start, loop, step, resume."""
