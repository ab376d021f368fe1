"""Weight files of the embedded models: one .npz each, which says itself what kind of model it holds."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.demo import linear_lm, tiny_lm
from pipeline.demo.tiny_lm import Generated


class Model(Protocol):
    """The interface of an embedded model."""

    @property
    def name(self) -> str:
        """`embedded/<name>@<12 hex digits of the weight file's sha256>`."""

    @property
    def stands_in_for(self) -> str:
        """The API model whose prices are borrowed and whose place this one takes in the demonstration."""

    def generate(self, messages: Sequence[Mapping[str, str]], max_tokens: int, top_k: int) -> Generated:
        """A greedy answer of at most `max_tokens` tokens, `top_k` alternatives each; ValueError if it cannot answer."""


KINDS: Mapping[str, Callable[[Mapping[str, Any], str], Model]] = {
    tiny_lm.KIND: tiny_lm.TinyLM,
    linear_lm.KIND: linear_lm.LinearLM,
}


def load(path: Path) -> Model:
    """The model in a weight file. FileNotFoundError, or ValueError when the file holds no model known here."""
    raw = Path(path).read_bytes()
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
            kind = json.loads(arrays["metadata"].tobytes())["kind"]
            return KINDS[kind](arrays, hashlib.sha256(raw).hexdigest()[:12])
    except (KeyError, TypeError, AttributeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not the weight file of an embedded model ({type(error).__name__}: {error})"
        ) from error
