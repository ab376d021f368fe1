"""Fuzzing: services whose replies, headers, answers and result lines are odd. Every command ends as documented."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from fake_batch import FakeBatchApi, answer, complete
from fake_provider import FakeProvider, Post, Step, completion
from fault_run import FaultRun, artefacts_match_their_schemas, rows_are_accounted_for
from foreign_input import ODD, json_bytes, places
from foreign_input import put as in_place
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from together import AsyncTogether

from pipeline.collect.sending.batch_sender import send_batches

fuzzed = settings(
    max_examples=max(2, settings.default.max_examples // 100),
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)


def drawn(chance: random.Random, valid: Any) -> bytes:
    """A JSON value with odd parts, or with bytes turned."""
    value = valid
    for _ in range(chance.randint(1, 3)):
        value = in_place(
            value, chance.choice(list(places(value))), chance.choice([*ODD, 10**19, 2**63, "²", "5" * 5000, 10**400])
        )
    content = bytearray(json_bytes(value))
    if chance.random() < 0.2:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content)


ODD_HEADERS = {
    name: [
        "nan",
        "inf",
        "-1",
        "1e400",
        "9" * 400,
        "²",
        "gzip",
        "br",
        "gzip, gzip",
        "Wed, 30 Feb 2026 00:00:00 GMT",
        ";",
        "\x7f",
    ]
    for name in ("Retry-After", "retry-after-ms", "x-ratelimit-reset", "x-request-id", "Content-Encoding")
}


@pytest.mark.slow
class TestServices:
    """Two in five replies, or answers of the batch API, are odd. Whatever they are, the command ends as documented."""

    @fuzzed
    @given(seed=st.integers(0, 2**32))
    def test_replies_of_a_chat_api(self, seed) -> None:
        chance = random.Random(seed)

        def odd(post: Post) -> Step | None:
            if post.number < 30 or chance.random() < 0.6:
                return None
            headers = {"Content-Type": "application/json"}
            if chance.random() < 0.2:
                name = chance.choice(list(ODD_HEADERS))
                headers[name] = chance.choice(ODD_HEADERS[name])
            status = 200 if chance.random() < 0.9 else chance.choice([201, 204, 206, 299, 400, 422, 500, 599, 600, 999])
            return Step("raw", status, headers, drawn(chance, completion(post.body)))

        with tempfile.TemporaryDirectory() as folder:
            run = FaultRun(Path(folder), settings="max_unreadable: 1\nmax_failure_rate: 0.999\n")
            run.deadline = 5.0
            with FakeProvider(odd) as api:
                ended = run(api, "evaluate")
                assert ended.code in (0, 2, 3, 4), ended.err
                if ended.code == 0:
                    rows_are_accounted_for(run)
                    artefacts_match_their_schemas(run.folder)
                assert run(api, "status", "--export-replies", str(run.folder / "out")).code == 0

    @fuzzed
    @given(seed=st.integers(0, 2**32))
    def test_answers_and_result_lines_of_a_batch_api(self, seed) -> None:
        chance, paid = random.Random(seed), ("--provider", "together-batch", "--resend-lost")

        def torn(lines: list[Any]) -> tuple[str, list[Any], None]:
            answers = [answer(line) if chance.random() < 0.6 else drawn(chance, answer(line)) for line in lines]
            return chance.choice(["COMPLETED", "EXPIRED", "FAILED"]), answers, None

        def instead(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
            if chance.random() > 0.1 or path.endswith("/content"):
                return None
            forms = [
                b"<html>",
                b'{"id": "x',
                b"null",
                b"[7]",
                drawn(chance, {"id": "x", "status": "COMPLETED", "job": {"id": "y"}, "progress": 5}),
            ]
            return chance.choice(forms), {}

        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            patch.setattr(AsyncTogether, "_calculate_retry_timeout", lambda *_, **__: 0.01)
            patch.setitem(send_batches.__kwdefaults__, "poll", 0.01)
            patch.setitem(send_batches.__kwdefaults__, "looks", (0.0, 0.01))
            run = FaultRun(Path(folder), rows=24, settings="max_unreadable: 1\nmax_failure_rate: 0.999\n")
            with FakeBatchApi([complete(), torn, torn, complete(), torn], polls=0) as api:
                api.instead = instead
                for _ in range(4):
                    ended = run(api, "collect", *paid)
                    assert ended.code in (0, 2, 3, 4), ended.err
                    assert "\x1b" not in ended.err
                    if ended.code == 0:
                        rows_are_accounted_for(run)
