# SPDX-License-Identifier: Apache-2.0
"""Pictures of one scene brought over each other, and freed of what moved. NumPy and OpenCV alone."""
