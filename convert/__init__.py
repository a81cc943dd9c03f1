# SPDX-License-Identifier: Apache-2.0
"""Conversion of published weights to checkpoint folders of this library, and back."""
