"""Model process: reads the bodies of requests from standard input and writes replies to standard output, in the same order.

Each piece is preceded by its length, a request by the file that holds its model, and a reply by its status.
"""

from __future__ import annotations

import functools
import os
import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from pipeline.demo import weights
from pipeline.demo.replies import Replies

ASKED, REPLIED = struct.Struct(">HI"), struct.Struct(">IH")
"""Before a request: the lengths of its model's path and of its body. Before a reply: its length and its status."""


def serve() -> None:
    """Answer what comes on standard input until it ends. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    replies = functools.cache(lambda path: Replies([weights.load(Path(os.fsdecode(path)))]))
    asked, replied = sys.stdin.buffer, sys.stdout.buffer
    while (head := _whole(asked, ASKED.size)) is not None:
        path, raw = (_whole(asked, length) for length in ASKED.unpack(head))
        if path is None or raw is None:
            return
        status, body = replies(path).to_chat(raw)
        replied.write(REPLIED.pack(len(body), status) + body)
        replied.flush()


def _whole(file: BinaryIO, length: int) -> bytes | None:
    raw = file.read(length)
    return raw if len(raw) == length else None
