# SPDX-License-Identifier: Apache-2.0
"""Folders of the Hugging Face hub, hf:owner/name or hf:owner/name@revision: fetched once, then cached."""

import re
from pathlib import Path

PREFIX = "hf:"
FILES = (
    "*.json",
    "*.safetensors",
    "*/*.json",
    "*/*.safetensors",
    "tokenizer.model",
    "README.md",
    "LICENSE*",
)
NAME = re.compile(r"(?P<id>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?")


def is_name(text: str) -> bool:
    """Whether a text would name a folder of the hub after `hf:`."""
    return NAME.fullmatch(text) is not None


def fetch(name: str, revision: str | None = None) -> Path:
    """The local snapshot of `hf:owner/name`; HF_HOME, HF_ENDPOINT and HF_HUB_OFFLINE hold.

    Raises ValueError, with the command that fetches it elsewhere, where it is not here and not to be had.
    """
    found = NAME.fullmatch(name.removeprefix(PREFIX))
    if not found:
        raise ValueError(f"{name} is no hub id; write hf:owner/name, or hf:owner/name@revision")
    hub_id, revision = found["id"], revision or found["revision"]
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise ValueError(
            f"{hub_id} is not here, and a download needs `pip install ditfuse-jax[hub]`"
        ) from None
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=list(FILES), etag_timeout=5))
    except (*HfHubHTTPError.__bases__, ValueError) as error:  # OSError, and whatever network library it uses
        at = f" --revision {revision}" if revision else ""
        raise ValueError(
            f"{hub_id} is not here and cannot be fetched ({type(error).__name__}); on another machine run "
            f"`hf download {hub_id}{at} --local-dir {hub_id.split('/')[1]} --include '*.json' "
            "'*.safetensors'`, copy that folder here and name it instead"
        ) from None
