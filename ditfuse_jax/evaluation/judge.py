# SPDX-License-Identifier: Apache-2.0
"""The three questions put to a vision model over any OpenAI-compatible endpoint (the extra `judge`)."""

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ditfuse_jax.evaluation.verdicts import Verdict

SYSTEM = (
    "You judge segmentations. You get a fused image, the same image in which one label is marked in "
    "translucent blue, and the label. Answer three closed questions, and answer true only if you are sure."
)
QUESTIONS = """Label: {label}
precision: is less than 20 % of the marked area something else than the label?
recall: is more than 80 % of the label's area in the image marked?
contour: of the correctly marked area, is more than 80 % of the contour accurate?
Reply with JSON only: {{"precision": true or false, "recall": true or false, "contour": true or false}}"""
ANSWER_TOKENS = 60  # at most
LARGEST_SIDE = 1024  # pixels of a picture that is sent
TILE, TILE_TOKENS, BASE_TOKENS = 512, 170, 85  # how GPT-4o counts a picture; others count differently
LETTERS_A_TOKEN = 4


class Question(NamedTuple):
    name: str
    label: str
    fused: np.ndarray  # uint8 [H, W, 3]
    marked: np.ndarray  # uint8 [H, W, 3]


class Estimate(NamedTuple):
    requests: int
    cached: int
    tokens_in: int
    tokens_out: int

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are for a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


class Judge:
    """A model and the answers that it gave; an answer is asked for once and kept in `cache`."""

    def __init__(self, client, model: str, cache: Path):
        """client: an openai.OpenAI; it repeats failed requests by itself."""
        self.client, self.model, self.cache = client, model, cache
        self.known = _read(cache)

    def estimate(self, questions: Sequence[Question]) -> Estimate:
        new = [one for one in questions if key(self.model, one) not in self.known]
        tokens = sum(_tokens(one) for one in new)
        return Estimate(len(new), len(questions) - len(new), tokens, ANSWER_TOKENS * len(new))

    def ask(
        self, questions: Sequence[Question], *, at_once: int, on_done: Callable[[], None]
    ) -> tuple[dict[tuple[str, str], Verdict], list[str]]:
        """Verdicts by name and label, and a line for each question without one; `at_once` requests run."""
        found, problems = {}, []
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(at_once) as pool, self.cache.open("a") as file:
            futures = {pool.submit(self._answer, one): one for one in questions}
            for future in as_completed(futures):
                one = futures[future]
                on_done()
                try:
                    verdict = future.result()
                except _failures() as error:
                    problems.append(f"{one.name}, {one.label}: {error}")
                    continue
                identity = key(self.model, one)
                if identity not in self.known:
                    file.write(json.dumps({"key": identity, "verdict": verdict}) + "\n")
                    file.flush()
                    self.known[identity] = verdict
                found[one.name, one.label] = verdict
        return found, sorted(problems)

    def _answer(self, one: Question) -> Verdict:
        if (verdict := self.known.get(key(self.model, one))) is not None:
            return verdict
        reply = self.client.chat.completions.create(
            model=self.model,
            messages=messages(one),
            temperature=0,
            max_tokens=ANSWER_TOKENS,
            response_format={"type": "json_object"},
        )
        return parse(reply.choices[0].message.content or "")


def messages(one: Question) -> list[dict]:
    """The request of one question: text, the fused image, the marked one."""
    parts = [{"type": "text", "text": QUESTIONS.format(label=one.label)}]
    for picture in (one.fused, one.marked):
        url = "data:image/png;base64," + base64.b64encode(_png(picture)).decode()
        parts.append({"type": "image_url", "image_url": {"url": url}})
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": parts}]


def parse(text: str) -> Verdict:
    """Raises ValueError for a reply that is not the JSON that was asked for."""
    inside = text[text.find("{") : text.rfind("}") + 1]
    try:
        values = json.loads(inside)
        verdict = Verdict(*(values[name] for name in Verdict._fields))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"the reply {text[:80]!r} does not answer the three questions; ask again") from error
    if not all(isinstance(value, bool) for value in verdict):
        raise ValueError(f"the reply {text[:80]!r} has answers other than true and false; ask again")
    return verdict


def key(model: str, one: Question) -> str:
    """Equal exactly for the same model, words and pixels."""
    digest = hashlib.sha256(json.dumps([model, SYSTEM, QUESTIONS, one.label]).encode())
    for picture in (one.fused, one.marked):
        digest.update(str(picture.shape).encode() + picture.tobytes())
    return digest.hexdigest()


def _failures() -> tuple[type[Exception], ...]:
    from openai import OpenAIError

    return OpenAIError, ValueError


def _png(picture: np.ndarray) -> bytes:
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _tokens(one: Question) -> int:
    words = len(SYSTEM) + len(QUESTIONS) + len(one.label)
    tiles = sum(
        math.prod(-(-min(side, LARGEST_SIDE) // TILE) for side in picture.shape[:2])
        for picture in (one.fused, one.marked)
    )
    return words // LETTERS_A_TOKEN + 2 * BASE_TOKENS + TILE_TOKENS * tiles


def _read(cache: Path) -> dict[str, Verdict]:
    """Verdicts by key; a line torn by a kill is left out."""
    known = {}
    for line in cache.read_text().splitlines() if cache.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        known[entry["key"]] = Verdict(*entry["verdict"])
    return known
