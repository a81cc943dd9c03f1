# SPDX-License-Identifier: Apache-2.0
"""The rule engine: which source tensor fills which target, and the same table read backwards.

A plan holds no data. Arrays of a source are memory-mapped views, transforms return views where they can,
and `rows` yields one bounded piece of a target at a time, so a checkpoint of any size streams through.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

FLOATS = ("float32", "bfloat16", "float16")
PIECE = 1 << 25  # bytes (at most) of one piece of a tensor held in memory while it is transposed or cast


class Transform(NamedTuple):
    """A change of layout and its exact inverse (no arithmetic: a round trip gives every bit back)."""

    forward: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]


def _patches(kernel):
    """[D, C, p, q] of a strided convolution -> [(p q c), D] of a linear layer over flattened patches."""
    return kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0])


def _unpatches(kernel):
    """[(p q c), D] -> [D, C, 2, 2]; the patch is 2x2 in every OmniGen checkpoint."""
    return kernel.reshape(2, 2, -1, kernel.shape[1]).transpose(3, 2, 0, 1)


keep = Transform(lambda a: a, lambda a: a)
linear = Transform(np.transpose, np.transpose)  # [out, in] <-> [in, out]
conv = Transform(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))  # OIHW <-> HWIO
pointwise = Transform(lambda a: a[:, :, 0, 0].T, lambda a: a.T[:, :, None, None])  # OI11 <-> [in, out]
patch = Transform(_patches, _unpatches)
leading = Transform(lambda a: a[0], lambda a: a[None])  # [1, ...] <-> [...]


class Rule(NamedTuple):
    source: str  # regex over the whole torch key; its group, if any, is the layer index
    target: str | None  # path in the model; None drops the tensor
    transform: Transform = keep
    part: int = 0  # place among the sources that are joined along the last axis of the target


class Piece(NamedTuple):
    key: str  # of the source tensor
    rule: Rule


Plan = dict[str, list[list[Piece]]]  # target path -> layers -> joined parts; a flat target has one "layer"


def plan(
    source: Mapping[str, np.ndarray],
    rules: tuple[Rule, ...],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    what: str = "checkpoint",
) -> Plan:
    """Matches every tensor of `source` with exactly one rule and fills every target of `shapes`.

    Raises ValueError that lists all misfits at once: unknown tensors, tensors matched twice, missing
    tensors and layers, wrong shapes, quantised tensors.
    """
    found: dict[str, dict[int, dict[int, Piece]]] = defaultdict(lambda: defaultdict(dict))
    problems = []
    patterns = [(rule, re.compile(rule.source)) for rule in rules]  # more than re's own cache holds
    for key in source:
        hits = [(rule, match) for rule, pattern in patterns if (match := pattern.fullmatch(key))]
        if len(hits) != 1:
            problems.append(
                f"{key}: {'no rule knows this tensor' if not hits else 'matched by several rules'}"
            )
            continue
        rule, match = hits[0]
        if rule.target is None:
            continue
        if source[key].dtype.name not in FLOATS:
            problems.append(
                f"{key} ({source[key].dtype}) is none of {', '.join(FLOATS)}; use the published, "
                "unquantised weights"
            )
        parts = found[rule.target][int(match[1]) if match.re.groups else -1]
        if rule.part in parts:
            problems.append(f"{key}: {rule.target} is already filled by {parts[rule.part].key}")
        parts[rule.part] = Piece(key, rule)
    result = {path: _ordered(layers) for path, layers in found.items()}
    for path in sorted(shapes.keys() | result.keys()):
        problems += _misfits(source, path, found.get(path), shapes.get(path), rules)
    if problems:
        raise ValueError(f"{what} does not fit the model:\n  " + "\n  ".join(problems))
    return result


def mixed_types(source: Mapping[str, np.ndarray], plan: Plan) -> list[str]:
    """The targets whose layers and parts have several dtypes."""
    types = {
        path: {source[piece.key].dtype for parts in layers for piece in parts}
        for path, layers in plan.items()
    }
    return sorted(path for path, found in types.items() if len(found) > 1)


def _ordered(layers: dict[int, dict[int, Piece]]) -> list[list[Piece]]:
    return [[parts[part] for part in sorted(parts)] for _, parts in sorted(layers.items())]


def _misfits(source, path, layers, want, rules) -> list[str]:
    """What is wrong with one target: a list of sentences, empty if all is well."""
    if want is None:
        return [f"{path}: the model has no such parameter, but the checkpoint has {_first(layers).key}"]
    if layers is None:
        names = sorted({rule.source.replace("\\", "") for rule in rules if rule.target == path})
        return [f"{path}: missing, no tensor named {' or '.join(names)}"]
    stacked = -1 not in layers
    if stacked and (gaps := set(range(want[0])) ^ layers.keys()):
        return [f"{path}: layers {sorted(gaps)} are {'missing' if gaps - layers.keys() else 'too many'}"]
    wrong = []
    for parts in layers.values():
        try:
            got = _joined_shape(source, parts)
        except (ValueError, IndexError):
            got = "of an unexpected rank"
        if got != (want[1:] if stacked else want):
            piece = next(iter(parts.values()))
            wrong.append(f"{path}: {piece.key} gives {got}, the model wants {want[1:] if stacked else want}")
    return wrong


def _first(layers) -> Piece:
    return next(iter(next(iter(layers.values())).values()))


def _joined_shape(source, parts) -> tuple[int, ...]:
    shapes = [piece.rule.transform.forward(source[piece.key]).shape for _, piece in sorted(parts.items())]
    if len({shape[:-1] for shape in shapes}) > 1:
        raise ValueError(f"parts of different shapes {shapes}")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def layer(source: Mapping[str, np.ndarray], parts: list[Piece]) -> list[np.ndarray]:
    """The parts of one layer of a target, transformed but not yet joined: views, no copies."""
    return [piece.rule.transform.forward(source[piece.key]) for piece in parts]


def rows(parts: list[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    """One layer in pieces of at most PIECE bytes along its first axis: (rows, array), joined, not cast."""
    length = len(parts[0])
    row_bytes = sum(part.nbytes for part in parts) // max(length, 1)
    step = max(1, PIECE // max(row_bytes, 1))
    for start in range(0, length, step):
        block = slice(start, start + step)
        pieces = [part[block] for part in parts]
        yield block, pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=-1)


def name_of(rule: Rule, index: int) -> str:
    """The source name that `rule` reads for layer `index`: its regex, a literal but for the group."""
    name = rule.source.replace(r"(\d+)", str(index)).replace("\\", "")
    assert not set(name) & set("()[]*+?|^$"), f"{rule.source} cannot be spelled backwards"
    return name


def invert(
    target: Mapping[str, np.ndarray], rules: tuple[Rule, ...], spelled: frozenset[str] = frozenset()
) -> dict[str, np.ndarray]:
    """Source tensors from the model's own: by the first rule of each target, or by the one in `spelled`.

    Raises ValueError naming every parameter that no rule (or only a joining one) writes.
    """
    chosen: dict[str, Rule] = {}
    for rule in rules:
        if rule.target is not None and (rule.target not in chosen or rule.source in spelled):
            chosen[rule.target] = rule
    missing = sorted(path for path in target if path not in chosen)
    if missing:
        raise ValueError(f"no rule writes {', '.join(missing)}")
    result = {}
    for path, array in target.items():
        rule = chosen[path]
        stacked = r"(\d+)" in rule.source
        for index, part in enumerate(array) if stacked else ((0, array),):
            result[name_of(rule, index)] = rule.transform.inverse(part)
    return result


def spelling(plan: Plan, rules: tuple[Rule, ...]) -> list[str]:
    """The rules used that are not the first of their target: old names, for the export to write again."""
    first: dict[str, str] = {}
    for rule in rules:
        first.setdefault(rule.target, rule.source)
    used = {piece.rule for layers in plan.values() for parts in layers for piece in parts}
    return sorted(rule.source for rule in used if first[rule.target] != rule.source)
