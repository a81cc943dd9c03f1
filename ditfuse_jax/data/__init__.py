# SPDX-License-Identifier: Apache-2.0
"""The training stream: M3 and its sister tasks, made on the fly, the same for any workers and hosts."""
