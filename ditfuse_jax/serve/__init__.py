# SPDX-License-Identifier: Apache-2.0
"""One process for people and programs: a page in the browser and HTTP, both on one worker (docs/serve.md)."""
