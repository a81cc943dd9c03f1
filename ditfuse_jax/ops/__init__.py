# SPDX-License-Identifier: Apache-2.0
"""Matrix products and attention, each fast form with its plain reference beside it."""
