"""A linear text classifier that answers like a language model, where a tiny transformer cannot learn the task.

Hashed TF-IDF features and logistic regression (weights fitted with scikit-learn by datasets/train_linear.py, evaluated
in numpy). Its distribution over the answers is spelled out token by token: where answers share their first token, the
token's probability is the sum of theirs, so the logprobs are those of a model that only knows these answers.
"""

import itertools
import json
import math
import re
import string
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.demo.tiny_lm import Generated, GeneratedToken, Piece

KIND = "tfidf-logreg"
WORDS = re.compile(r"\w+")
OPTION = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)
LONGEST_PAIRING = 400  # words of a pair's longer side that are crossed: bounds the work, not the input
END = b"<|im_end|>"


class PromptNotUnderstoodError(ValueError):
    """The prompt is not the one that this model was fitted to."""


class LinearLM:
    """A model read from one .npz (weights.load); `name` holds the digest of that file.

    Arrays: `weights` (features,) or (answers, features) and `intercept`, float16; `idf` (features,) float16; `metadata`
    JSON with the answers and the prompt's user template, by which a message is taken apart again.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], digest: str) -> None:
        self.metadata: dict[str, Any] = json.loads(arrays["metadata"].tobytes())
        if self.metadata.get("kind") != KIND:
            raise ValueError(f"not a {KIND} but a {self.metadata.get('kind')!r}")
        self.name = f"embedded/{KIND}-{self.metadata['name']}@{digest}"
        self.stands_in_for: str = self.metadata["stands_in_for"]
        self._answers: list[str] = self.metadata["answers"]
        self._pattern = template_pattern(self.metadata["user"])
        self._weights = np.atleast_2d(arrays["weights"].astype(np.float64))
        self._intercept = np.atleast_1d(arrays["intercept"].astype(np.float64))
        self._idf = arrays["idf"].astype(np.float64)

    def generate(self, messages: Sequence[Mapping[str, str]], max_tokens: int, top_k: int) -> Generated:
        """The most probable answer, spelled greedily. Raises PromptNotUnderstoodError on another prompt's text."""
        text = messages[-1]["content"]
        prompt_tokens = sum(len(WORDS.findall(m["role"] + " " + m["content"])) for m in messages)
        spelled = {spell(answer): p for answer, p in self.probabilities(text).items()}
        tokens: list[GeneratedToken] = []
        while len(tokens) < max_tokens:
            done = len(tokens)
            following: dict[bytes, float] = {}
            for pieces, p in spelled.items():
                piece = pieces[done] if done < len(pieces) else END
                following[piece] = following.get(piece, 0.0) + p
            total = math.fsum(following.values())
            ranked = sorted(following.items(), key=lambda item: (-item[1], item[0]))
            best = ranked[0][0]
            if best == END:
                return Generated(tuple(tokens), "stop", prompt_tokens)
            alternatives = tuple(Piece(piece, math.log(p / total)) for piece, p in ranked[:top_k])
            tokens.append(GeneratedToken(best, math.log(ranked[0][1] / total), alternatives))
            spelled = {pieces: p for pieces, p in spelled.items() if pieces[done : done + 1] == (best,)}
        return Generated(tuple(tokens), "length", prompt_tokens)

    def probabilities(self, text: str) -> dict[str, float]:
        """Probability of each answer to a user message; they sum to one."""
        vectors = [self._vector(names) for names in examined(self.metadata["examines"], self._pattern, text)]
        scores = np.array([self._weights[:, at] @ value + self._intercept for at, value in vectors])
        if self.metadata["examines"] == "options":
            answers, scores = list(string.ascii_uppercase[: len(scores)]), scores[:, 0]
        elif scores.shape[1] == 1:
            answers, scores = self._answers, np.array([0.0, scores[0, 0]])  # a binary fit scores its second answer
        else:
            answers, scores = self._answers, scores[0]
        odds = np.exp(np.maximum(scores - scores.max(), -700.0))
        return dict(zip(answers, (odds / odds.sum()).tolist(), strict=True))

    def _vector(self, names: set[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        at, counts = hashed(names, len(self._idf))
        value = counts * self._idf[at]
        return at, value / max(float(np.sqrt(value @ value)), 1e-12)


def template_pattern(user: str) -> str:
    """The regular expression that takes a filled-in user template apart again, a group for each column."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(user):
        parts.append(re.escape(literal) + (f"(?P<{name}>.*)" if name else ""))
    return "".join(parts)


def examined(what: str, pattern: str, text: str) -> list[set[str]]:
    """Feature names of what is scored: one set for a text or a pair, one for each option of a choice."""
    found = re.fullmatch(pattern, text, re.DOTALL)
    if found is None:
        raise PromptNotUnderstoodError("this demonstration model understands only the prompt it was fitted to")
    columns = list(found.groups())
    if what == "text":
        return [text_features(" ".join(columns))]
    if what == "pair":
        return [pair_features(columns[0], columns[1])]
    options = [option for _, option in OPTION.findall(columns[1])]
    if not options:
        raise PromptNotUnderstoodError('this demonstration model finds no options ("A. ...") in the prompt')
    return [pair_features(columns[0], option) for option in options]


def text_features(text: str) -> set[str]:
    """Words and pairs of neighbouring words."""
    words = WORDS.findall(text.casefold())
    return {*words, *map(" ".join, itertools.pairwise(words))}


def pair_features(first: str, second: str) -> set[str]:
    """Words of the second text, every word of the first with every word of the second, and how many they share."""
    a, b = (list(dict.fromkeys(WORDS.findall(text.casefold())))[:LONGEST_PAIRING] for text in (first, second))
    shared = set(a) & set(b)
    names = {f"{x} {y}" for x in a for y in b}
    return names | {f"+{word}" for word in b} | {f"={word}" for word in shared} | {f"#{min(len(shared), 4)}", "+"}


def hashed(names: set[str], size: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places (unique, ascending) in a table of `size` and how many names fall on each (Weinberger et al. 2009).

    By a checksum, which is the same on every machine and in every process.
    """
    found = np.array([zlib.crc32(name.encode("utf-8", "surrogatepass")) for name in names], dtype=np.int64)
    places, counts = np.unique(found % size, return_counts=True)
    return places.astype(np.int64), counts.astype(np.float64)


def spell(answer: str) -> tuple[bytes, ...]:
    """Tokens of an answer: a sign or space begins a new one, so "self_harm" is "self", "_harm"."""
    return tuple(piece.encode() for piece in re.findall(r"[^\W_]+|[\W_]+[^\W_]*", answer))
