"""A small language model that runs in process: a Llama-style transformer of 0.1 to 1 million parameters in numpy.

Architecture (Touvron et al. 2023, arXiv:2302.13971): pre-norm RMSNorm, rotary positions on halves, causal attention,
SwiGLU, embedding tied to the output. Weights are kept as float16 and computed in float32. Decoding is greedy;
logprobs are the log-softmax over the whole vocabulary, before any temperature or truncation.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl  # type: ignore[import-untyped]
from numpy.typing import NDArray

from pipeline.demo.bpe import END_OF_TEXT, MESSAGE_END, MESSAGE_START, Tokenizer

Floats = NDArray[np.float32]

NORM_EPSILON = np.float32(1e-5)
ROPE_BASE = 10_000.0
KEPT_PREFIXES = 8
KIND = "transformer"


class Piece(NamedTuple):
    """A token with its probability: bytes as they stand in the answer, logprob in nat."""

    bytes: bytes
    logprob: float


class GeneratedToken(NamedTuple):
    """One generated token and the most probable alternatives at its place, the token itself among them."""

    bytes: bytes
    logprob: float
    alternatives: tuple[Piece, ...]


class Generated(NamedTuple):
    """An answer: its tokens without the end token, "stop" or "length", and the number of tokens in the prompt."""

    tokens: tuple[GeneratedToken, ...]
    finish_reason: str
    prompt_tokens: int


class PromptTooLongError(ValueError):
    """The prompt and the tokens asked for do not fit into the model's context."""


class TinyLM:
    """A transformer read from one .npz file; `name` holds the digest of that file."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], digest: str) -> None:
        self.metadata: dict[str, Any] = json.loads(arrays["metadata"].tobytes())
        if self.metadata.get("kind") != KIND:
            raise ValueError(f"not a {KIND} but a {self.metadata.get('kind')!r}")
        self.name = f"embedded/{self.metadata['name']}@{digest}"
        self.stands_in_for: str = self.metadata["stands_in_for"]
        self.tokenizer = Tokenizer((int(left), int(right)) for left, right in arrays["merges"])
        self.context: int = self.metadata["context"]
        self._heads: int = self.metadata["heads"]
        self._embedding = np.ascontiguousarray(arrays["embedding"], dtype=np.float32)
        self._output = np.ascontiguousarray(self._embedding.T)
        self._norm = arrays["norm"].astype(np.float32)
        self._layers = [_Layer(arrays, i) for i in range(self.metadata["layers"])]
        self._width = self._embedding.shape[1]
        self._head_width = self._width // self._heads
        half = self._head_width // 2
        angles = np.outer(np.arange(self.context), ROPE_BASE ** (-np.arange(half) / half))
        # Shape (positions, 1, head width): one angle for both halves, minus the sine on the first.
        self._cos = np.tile(np.cos(angles), 2).astype(np.float32)[:, None, :]
        self._sin = np.concatenate([-np.sin(angles), np.sin(angles)], 1).astype(np.float32)[:, None, :]
        self._future = np.triu(np.full((256, 256), -np.inf, dtype=np.float32), 1)
        self._prefixes: dict[tuple[int, ...], Floats] = {}
        # Matrices this small get slower when split over threads, by a factor of ten when another process is busy.
        self._blas = threadpoolctl.ThreadpoolController().select(user_api="blas")

    @classmethod
    def load(cls, path: Path) -> "TinyLM":
        """Read a weight file; ValueError when it holds another kind of model."""
        raw = Path(path).read_bytes()
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            return cls(arrays, hashlib.sha256(raw).hexdigest()[:12])

    def generate(self, messages: Sequence[Mapping[str, str]], max_tokens: int, top_k: int) -> Generated:
        """Answer a conversation greedily with at most `max_tokens` tokens and `top_k` alternatives for each.

        The end token closes the answer and is not listed; it counts towards max_tokens, so a one-token answer under
        max_tokens=1 finishes with "length", as on servers that speak this format. Raises PromptTooLongError.
        """
        least = sum(self.tokenizer.fewest_tokens(message["content"]) for message in messages)
        ids, shared = self.tokenizer.chat(messages) if least <= self.context else ([], 0)
        if max(least, len(ids)) + max_tokens > self.context:
            raise PromptTooLongError(
                f"this model's context is {self.context} tokens; the messages have {len(ids) or f'over {least}'}"
                f" and max_tokens is {max_tokens}"
            )
        with self._blas.limit(limits=1):
            return self._decode(ids, shared, max_tokens, top_k)

    def _decode(self, ids: list[int], shared: int, max_tokens: int, top_k: int) -> Generated:
        cache = self._cache(len(ids) + max_tokens)
        self._fill_prefix(cache, tuple(ids[:shared]))
        logits = self._forward(ids[shared:], cache, shared)
        tokens: list[GeneratedToken] = []
        for position in range(len(ids), len(ids) + max_tokens):
            logprobs = log_softmax(logits)
            chosen = int(logprobs.argmax())
            if chosen in (MESSAGE_END, END_OF_TEXT, MESSAGE_START):
                return Generated(tuple(tokens), "stop", len(ids))
            tokens.append(self._token(chosen, logprobs, top_k))
            if len(tokens) < max_tokens:
                logits = self._forward([chosen], cache, position)
        return Generated(tuple(tokens), "length", len(ids))

    def logits(self, ids: Sequence[int]) -> Floats:
        """Logits (vocabulary,) of the token after `ids`, computed in one pass without a kept prefix."""
        return self._forward(ids, self._cache(len(ids)), 0)

    def _token(self, chosen: int, logprobs: NDArray[np.float64], top_k: int) -> GeneratedToken:
        best = top(logprobs, top_k)
        pieces = tuple(Piece(self.tokenizer.token_bytes[i], float(logprobs[i])) for i in best)
        return GeneratedToken(self.tokenizer.token_bytes[chosen], float(logprobs[chosen]), pieces)

    def _cache(self, positions: int) -> Floats:
        """Buffer for keys and values: (layers, 2, heads, positions, head width)."""
        return np.empty((len(self._layers), 2, self._heads, positions, self._head_width), dtype=np.float32)

    def _fill_prefix(self, cache: Floats, ids: tuple[int, ...]) -> None:
        """Keys and values of what the prompts of a task share, computed once for each of the last few wordings."""
        if not ids:
            return
        kept = self._prefixes.get(ids)
        if kept is None:
            kept = self._cache(len(ids))
            self._forward(ids, kept, 0)
            if len(self._prefixes) >= KEPT_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[ids] = kept
        cache[:, :, :, : len(ids)] = kept

    def _forward(self, ids: Sequence[int], cache: Floats, start: int) -> Floats:
        """Logits (vocabulary,) after the last of `ids`, which stand at positions start, start + 1, ...

        Reads the cache before `start` and writes the positions of `ids`. In the last layer only the last position goes
        on: the output of the others would be unused.
        """
        end = start + len(ids)
        cos, sin = self._cos[start:end], self._sin[start:end]
        x = self._embedding[np.asarray(ids)]
        for number, layer in enumerate(self._layers):
            keys, values = cache[number]
            h = rms_norm(x, layer.attention_norm)
            both = (h @ layer.key_value).reshape(len(ids), 2, self._heads, self._head_width)
            keys[:, start:end] = _rotate(both[:, 0], cos, sin).transpose(1, 0, 2)
            values[:, start:end] = both[:, 1].transpose(1, 0, 2)
            if number == len(self._layers) - 1:
                x, h, cos, sin = x[-1:], h[-1:], cos[-1:], sin[-1:]
            query = _rotate((h @ layer.query).reshape(len(x), self._heads, self._head_width), cos, sin)
            x = x + self._attend(query, keys[:, :end], values[:, :end]) @ layer.output
            x = x + _gated(rms_norm(x, layer.feed_forward_norm) @ layer.gate_up) @ layer.down
        logits: Floats = rms_norm(x[-1:], self._norm)[0] @ self._output
        return logits

    def _attend(self, query: Floats, keys: Floats, values: Floats) -> Floats:
        """Causal attention of the last len(query) positions: (queries, heads, head width) to (queries, width)."""
        count = len(query)
        scores = query.transpose(1, 0, 2) @ keys.transpose(0, 2, 1)
        if count > 1:
            if count > len(self._future):
                self._future = np.triu(np.full((self.context, self.context), -np.inf, dtype=np.float32), 1)
            scores[:, :, -count:] += self._future[:count, :count]
        scores -= scores.max(axis=2, keepdims=True)
        np.exp(scores, out=scores)
        mixed = (scores @ values) / scores.sum(axis=2, keepdims=True)
        joined: Floats = mixed.transpose(1, 0, 2).reshape(count, self._width)
        return joined


class _Layer:
    """The weights of one block, input width first, so that each product reads memory in order."""

    def __init__(self, arrays: Mapping[str, NDArray[Any]], number: int) -> None:
        def read(name: str) -> Floats:
            return np.ascontiguousarray(arrays[f"layer{number}.{name}"], dtype=np.float32)

        self.attention_norm, self.feed_forward_norm = read("attention_norm"), read("feed_forward_norm")
        self.key_value, self.output = read("key_value"), read("output")
        self.gate_up, self.down = read("gate_up"), read("down")
        query = read("query")
        heads: int = json.loads(arrays["metadata"].tobytes())["heads"]
        self.query = query * np.float32((query.shape[0] // heads) ** -0.5)  # the attention's scale, applied once


def _gated(both: Floats) -> Floats:
    """SiLU of the first half of the columns, free of overflow, times the second: gate * (0.5 + 0.5 * tanh(gate / 2)) * up."""
    half = both.shape[1] // 2
    gate, out = both[:, :half], np.multiply(both[:, :half], np.float32(0.5))
    np.tanh(out, out=out)
    out *= np.float32(0.5)
    out += np.float32(0.5)
    out *= gate
    out *= both[:, half:]
    return out


def _rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotary positions (Su et al. 2021, arXiv:2104.09864), the first half of a head paired with the second."""
    turned: Floats = np.multiply(x, cos, order="C")
    halves = turned.reshape(*x.shape[:2], 2, -1)
    halves += x.reshape(halves.shape)[:, :, ::-1] * sin.reshape(len(sin), 1, 2, -1)
    return turned


def rms_norm(x: Floats, gain: Floats) -> Floats:
    """Rows of x over their root mean square, times a gain per column (Zhang, Sennrich 2019, arXiv:1910.07467)."""
    square: Floats = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
    normed: Floats = x / np.sqrt(square + NORM_EPSILON)
    normed *= gain
    return normed


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Logprobs in nat over the whole vocabulary; their exponentials sum to one."""
    wide: NDArray[np.float64] = logits.astype(np.float64)
    wide -= wide.max()
    wide -= np.log(np.exp(wide).sum())
    return wide


def top(logprobs: NDArray[np.float64], count: int) -> list[int]:
    """Token numbers of the `count` largest logprobs, largest first; among equals the lower number."""
    if count <= 0:
        return []
    best = np.argpartition(-logprobs, min(count, len(logprobs) - 1))[:count]
    return list(best[np.lexsort((best, -logprobs[best]))].tolist())
