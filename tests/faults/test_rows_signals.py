"""Row 27 of the fault matrix through the real command: a signal in the middle of both models' requests."""

from __future__ import annotations

import shlex
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_provider import FakeProvider, Post, Step, hang
from fault_run import FaultRun, invariants
from zygote import Forked, Zygote


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as parent:
        yield parent


def reached(api: FakeProvider, process: Forked, posts: int) -> None:
    while len(api.posts) < posts:
        assert process.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_row_27_a_signal_amid_a_collect_drains_and_the_command_that_it_prints_sends_the_rest(
    tmp_path: Path, zygote: Zygote, signum: int, code: int
) -> None:
    run = FaultRun(tmp_path / "project")
    with FakeProvider(latency=0.05) as api:
        words = run.words("collect", "--quiet", "--concurrency", "4")
        process = zygote.start(["pipeline", *words], run.environment(api))
        reached(api, process, 40)
        process.send_signal(signum)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert "Traceback" not in err
        kept = len(run.attempts("state='ok'"))
        assert 40 <= kept == len(api.posts) < 2 * run.rows, "what was in flight came back and is kept"
        (told,) = (line.partition(": ")[2] for line in err.splitlines() if "resume with: " in line)
        assert shlex.split(told.rpartition("resume with: ")[2])[-len(words) :] == words, "the very command"
        assert run(api, "collect").code == 0
        asked = Counter((post.body["model"], post.text) for post in api.posts)
        assert set(asked.values()) == {1}
        assert not run.attempts("state='unknown'")
        invariants(run, api)


@pytest.mark.slow
def test_row_27_a_second_signal_amid_a_collect_leaves_at_once_and_what_was_in_flight_is_perhaps_paid(
    tmp_path: Path, zygote: Zygote
) -> None:
    run = FaultRun(tmp_path / "project")
    stuck = True

    def hanging(post: Post) -> Step | None:
        return hang(60) if stuck and post.number >= 40 else None

    with FakeProvider(hanging) as api:
        process = zygote.start(
            ["pipeline", *run.words("collect", "--quiet", "--concurrency", "4")], run.environment(api)
        )
        reached(api, process, 44)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, "stopped at once" in err) == (130, True)
        stuck = False
        assert run(api, "collect").code == 0
        asked = Counter((post.body["model"], post.text) for post in api.posts)
        assert sum(asked.values()) - len(asked) == 4
        assert len(run.attempts("state='unknown'")) == 4
        invariants(run)
