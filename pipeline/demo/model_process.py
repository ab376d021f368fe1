"""Model process: reads the bodies of requests from standard input and writes replies to standard output, in the same order.

Each piece is preceded by its length, and a reply by its status.
"""

from __future__ import annotations

import signal
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from pipeline.demo import weights
from pipeline.demo.replies import Replies

ASKED, REPLIED = struct.Struct(">I"), struct.Struct(">IH")
"""Before a request: its length. Before a reply: its length and its status."""


def serve(path: str) -> None:
    """Answer what comes on standard input until it ends. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    replies = Replies([weights.load(Path(path))])
    asked, replied = sys.stdin.buffer, sys.stdout.buffer
    while (head := _whole(asked, ASKED.size)) is not None:
        raw = _whole(asked, *ASKED.unpack(head))
        if raw is None:
            return
        status, body = replies.to_chat(raw)
        replied.write(REPLIED.pack(len(body), status) + body)
        replied.flush()


def _whole(file: BinaryIO, length: int) -> bytes | None:
    raw = file.read(length)
    return raw if len(raw) == length else None
