# SPDX-License-Identifier: Apache-2.0
"""The fields of a request, in one table: how text becomes values, and what the OpenAPI page says."""

import typing
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ditfuse_jax.config import SamplingConfig, closest
from ditfuse_jax.inference import settings
from ditfuse_jax.task import TASKS


class Field(NamedTuple):
    kind: type  # int, float, str or bool
    help: str
    choices: tuple[str, ...] = ()


FORMATS = {"png": "image/png", "tiff": "image/tiff", "jpeg": "image/jpeg", "zip": "application/zip"}
WORDS = {
    "prompt": Field(str, "instruction in plain words; replaces the task's"),
    "task": Field(str, "a ready-made instruction", tuple(TASKS)),
    "object": Field(str, "the one thing a light or contrast task is about"),
    "segment": Field(str, "what to mark, as in car,building"),
    "tag": Field(bool, "with the task's tags or without, whatever the default"),
}
KINDS = typing.get_type_hints(SamplingConfig)
OPTIONS = {
    option.name: Field(KINDS[option.name], option.metadata["help"], option.metadata["choices"] or ())
    for option in settings.OPTIONS
}
FUSE = (
    WORDS
    | {
        "seed": Field(int, "of the noise; the same seed gives the same picture"),
        "format": Field(
            str, "of the answer; zip: the picture, its two maps and what it was made with", tuple(FORMATS)
        ),
    }
    | OPTIONS
)
PLAN = (
    {"height": Field(int, "of the pictures, in pixels"), "width": Field(int, "of the pictures, in pixels")}
    | WORDS
    | OPTIONS
)
TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}
TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def values(given: Mapping[str, str], table: Mapping[str, Field]) -> dict:
    """The fields that a client gave, each of its type; empty ones count as not given.

    Raises ValueError for a name that is in no table and for text that is no value of its type.
    """
    for name in given:
        if name not in table:
            raise ValueError(f"unknown field {name!r}{closest(name, table)}; one of {', '.join(table)}")
    return {name: _value(name, text, table[name]) for name, text in given.items() if text.strip()}


def _value(name: str, text: str, field: Field):
    convert: Callable = _truth if field.kind is bool else field.kind
    try:
        value = convert(text)
    except ValueError as error:
        raise ValueError(f"{name} {text!r} is not of type {TYPES[field.kind]}") from error
    if field.choices and value not in field.choices:
        near = closest(text, field.choices)
        raise ValueError(f"{name} {text!r} is not one of {', '.join(field.choices)}{near}")
    return value


def _truth(text: str) -> bool:
    if text.lower() not in TRUTHS:
        raise ValueError
    return TRUTHS[text.lower()]


def schema(table: Mapping[str, Field], *, images: int = 0) -> dict:
    """The request body in OpenAPI's words; images: how many pictures it may hold, 0 for none."""
    properties = {
        name: {"type": TYPES[field.kind], "description": field.help}
        | ({"enum": list(field.choices)} if field.choices else {})
        for name, field in table.items()
    }
    if not images:
        body = {"type": "object", "properties": properties, "required": ["height", "width"]}
        return _body("application/x-www-form-urlencoded", body)
    files = {
        "type": "array",
        "items": {"type": "string", "contentMediaType": "application/octet-stream", "format": "binary"},
        "minItems": 2,
        "maxItems": images,
        "description": "the field images twice or more; PNG, JPEG, TIFF, WebP or BMP of one size. The "
        "visible, far-focused or over-exposed one comes first.",
    }
    body = {"type": "object", "properties": {"images": files} | properties, "required": ["images"]}
    return _body("multipart/form-data", body)


def _body(kind: str, schema: dict) -> dict:
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}
