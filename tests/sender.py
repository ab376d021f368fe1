"""Sends rows through the real code and can be told to die: main(STORE, ROWS, [POINT, COUNT]), run in a process by zygote.

POINT is where it kills itself with SIGKILL, at the COUNT-th passing: before_send, after_reply, before_commit, after_commit.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict

from asking import PRICE, rows

from pipeline.collect.providers import together
from pipeline.collect.providers.chat_api import ChatApi
from pipeline.collect.sending.sender import send
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import CascadeError

CONCURRENCY = 8


def die_at(point: str, count: int) -> None:
    left = count

    def pass_by() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    complete, commit = ChatApi.complete, ResponseStore.commit

    async def dying_complete(self, request):
        if point == "before_send":
            pass_by()
        attempt = await complete(self, request)
        if point == "after_reply":
            pass_by()
        return attempt

    def dying_commit(self):
        if point == "before_commit":
            pass_by()
        commit(self)
        if point == "after_commit":
            pass_by()

    ChatApi.complete, ResponseStore.commit = dying_complete, dying_commit


def main(path: str, count: str, point: str = "", passing: str = "0") -> int:
    if point:
        die_at(point, int(passing))
    with ResponseStore(path) as store:
        try:
            report = send(
                rows(int(count)),
                together.from_environment(concurrency=CONCURRENCY),
                store,
                task="mail",
                concurrency=CONCURRENCY,
                price=PRICE,
                progress=False,
                start=CONCURRENCY,
                backoff=0.01,
                resume="the command",
            )
        except CascadeError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    print(json.dumps(asdict(report)))
    return 0
