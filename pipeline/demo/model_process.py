"""Model process: reads the bodies of requests from standard input and writes replies to standard output, in the same order.

Each piece is preceded by its length, a request by the file that holds its model, and a reply by its status.
"""

from __future__ import annotations

import functools
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.demo import weights
from pipeline.demo.replies import Replies

ASKED, REPLIED = struct.Struct(">HI"), struct.Struct(">IH")
"""Before a request: the lengths of its model's path and of its body. Before a reply: its length and its status."""


TOGETHER = 4
"""So many replies leave together where as many requests wait: each departure wakes the process that asked."""


def serve() -> None:
    """Answer what comes on standard input until it ends. Runs in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one decides
    replies = functools.cache(lambda path: Replies([weights.load(Path(os.fsdecode(path)))]))
    made: list[bytes] = []
    for path, raw, more in _requests(sys.stdin.fileno()):
        status, body = replies(path).to_chat(raw)
        made += (REPLIED.pack(len(body), status), body)
        if not more or len(made) >= 2 * TOGETHER:
            sys.stdout.buffer.write(b"".join(made))
            sys.stdout.buffer.flush()
            made.clear()


def _requests(file: int) -> Iterator[tuple[bytes, bytes, bool]]:
    """Path and body of each request, and whether another has arrived already."""
    arrived = bytearray()
    while piece := os.read(file, 1 << 16):
        arrived += piece
        whole = _length(arrived)
        while whole:
            end = ASKED.size + ASKED.unpack_from(arrived)[0]
            path, raw = bytes(arrived[ASKED.size : end]), bytes(arrived[end:whole])
            del arrived[:whole]
            whole = _length(arrived)
            yield path, raw, whole > 0


def _length(arrived: bytearray) -> int:
    """Bytes of the first request with what precedes it; 0 where not all of them have arrived."""
    if len(arrived) < ASKED.size:
        return 0
    whole = ASKED.size + sum(ASKED.unpack_from(arrived))
    return whole if len(arrived) >= whole else 0
