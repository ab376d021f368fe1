"""Byte-level byte-pair encoding (Sennrich, Haddow, Birch 2016, arXiv:1508.07909) for the embedded models.

Every byte has a token, so any text can be encoded and nothing is unknown. Text is first cut into words, numbers, runs of
signs and runs of white space, and pairs merge inside such a piece only. Training (datasets/train_tiny.py) and inference
use this one implementation.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

END_OF_TEXT, MESSAGE_START, MESSAGE_END = 0, 1, 2
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FIRST_BYTE = len(SPECIAL)

# Letters, digits, signs, white space: every character falls into exactly one class, so the pieces join to the text.
# A space belongs to the word after it. Lengths are bounded because merging a piece is quadratic in its length.
PIECES = re.compile(r" ?[^\W\d_]{1,24}| ?\d{1,3}| ?(?:[^\w\s]|_){1,8}|\s{1,16}(?!\S)|\s")
CACHED_PIECES = 50_000
KEPT_TEXTS = 16


class Tokenizer:
    """Text to token numbers and back: 0..2 special, 3..258 the bytes, then one token per merge, in order of rank."""

    def __init__(self, merges: Iterable[tuple[int, int]]) -> None:
        self._rank: dict[tuple[int, int], int] = {}
        self.token_bytes: list[bytes] = [name.encode() for name in SPECIAL] + [bytes([value]) for value in range(256)]
        for left, right in merges:
            self._rank[left, right] = len(self.token_bytes)
            self.token_bytes.append(self.token_bytes[left] + self.token_bytes[right])
        self._longest = max(map(len, self.token_bytes))
        self._seen: dict[str, list[int]] = {}
        # the system message is the same in all requests of a task
        self._encoded = functools.lru_cache(maxsize=KEPT_TEXTS)(lambda text: tuple(self.encode(text)))

    def __len__(self) -> int:
        return len(self.token_bytes)

    def fewest_tokens(self, text: str) -> int:
        """A lower bound of the number of tokens of a text, known without encoding it."""
        return len(text) // self._longest

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text. Special tokens are never read from text, so a mail cannot end its own message."""
        out: list[int] = []
        for piece in PIECES.findall(text):
            ids = self._seen.get(piece)
            if ids is None:
                if len(self._seen) >= CACHED_PIECES:
                    self._seen.clear()
                ids = self._seen[piece] = self._merge([FIRST_BYTE + b for b in piece.encode("utf-8", "surrogatepass")])
            out += ids
        return out

    def _merge(self, ids: list[int]) -> list[int]:
        never = len(self.token_bytes)
        while len(ids) > 1:
            ranks = [self._rank.get(pair, never) for pair in itertools.pairwise(ids)]
            best = min(ranks)
            if best == never:
                break
            at = ranks.index(best)
            ids[at : at + 2] = [best]
        return ids

    def decode(self, ids: Iterable[int]) -> bytes:
        """Bytes of a token sequence; they need not be valid UTF-8 where a character is cut."""
        return b"".join(self.token_bytes[i] for i in ids)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], int]:
        """Token numbers of a conversation up to the assistant's turn, and how many come before the last message's text.

        That number marks what the prompts of a task share (their system message): the cut depends on the request alone,
        never on what was asked before, so the same request always gives the same logprobs.
        """
        ids: list[int] = []
        shared = 0
        for message in messages:
            ids += [MESSAGE_START, *self._encoded(message["role"] + "\n")]
            shared = len(ids)
            ids += [*self._encoded(message["content"]), MESSAGE_END, *self._encoded("\n")]
        return [*ids, MESSAGE_START, *self._encoded("assistant\n")], shared
