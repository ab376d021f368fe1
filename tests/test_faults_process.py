"""Processes that are killed, interrupted or doubled: rows 26, 27 and 30 of the fault matrix.

The promise under test: after any crash at most the requests that were in flight are paid again, and no other; no
committed reply is ever lost or asked again.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import artefact_values
import pytest
from asking import KEY, rows
from fake_batch import FakeBatchApi, complete, go_on
from fake_provider import LABELS, FakeProvider, completion, hang, label_of
from sender import CONCURRENCY
from zygote import Forked, Zygote

from pipeline.collect.store.response_store import ResponseStore

HERE = Path(__file__).parent
ROWS = 120
POINTS = ("before_send", "after_reply", "before_commit", "after_commit")


def environment(api: FakeProvider | FakeBatchApi) -> dict[str, str]:
    return {**os.environ, "TOGETHER_API_KEY": KEY, "TOGETHER_BASE_URL": api.url, "PYTHONPATH": str(HERE.parent)}


@pytest.fixture(scope="module", autouse=True)
def zygote() -> Iterator[None]:
    global start
    with Zygote() as parent:
        start = parent.start
        yield


def sender(api: FakeProvider, folder: Path, *point: str) -> Forked:
    return start(["sender.py", str(folder / "s.sqlite"), str(ROWS), *point], environment(api))


def finish(process: Forked, code: int = 0) -> dict:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return json.loads(out) if code == 0 else {}


def committed(folder: Path) -> set[str]:
    """Texts whose reply is on disk, read past all our own code."""
    if not (folder / "s.sqlite").exists():
        return set()
    with sqlite3.connect(folder / "s.sqlite") as direct:
        try:
            found = {example_id for (example_id,) in direct.execute("SELECT example_id FROM attempt WHERE state='ok'")}
        except sqlite3.OperationalError:  # killed before the tables were there
            found = set()
    direct.close()
    return found


def check_promise(api: FakeProvider, folder: Path, kills: int) -> None:
    """After the last run: everything is there, as an uninterrupted run would have kept it, and little was repeated."""
    with ResponseStore(folder / "s.sqlite") as store:
        replies = list(store.replies(r.request_id for r in rows(ROWS)))
    assert [json.loads(r.body) for r in replies] == [
        completion({"messages": list(r.messages), "model": r.model, "logprobs": 3}) for r in rows(ROWS)
    ]
    asked = Counter(post.text for post in api.posts)
    assert set(asked) == {f"row {i}." for i in range(ROWS)}
    assert sum(asked.values()) - len(asked) <= kills * CONCURRENCY
    posts = len(api.posts)
    assert finish(sender(api, folder))["sent"] == 0
    assert len(api.posts) == posts


@pytest.mark.parametrize(
    ("point", "count"), [("after_reply", 40), ("before_commit", 9), ("after_commit", 12), ("before_send", 20)]
)
def test_row_26_a_kill_at_a_named_point_repeats_at_most_what_was_in_flight(tmp_path, point, count):
    with FakeProvider(latency=0.01) as api:
        finish(sender(api, tmp_path, point, str(count)), -signal.SIGKILL)
        kept, before = committed(tmp_path), len(api.posts)
        assert len({p.text for p in api.posts} - kept) <= CONCURRENCY
        report = finish(sender(api, tmp_path))
        assert not {p.text for p in api.posts[before:]} & kept, "a committed reply was asked again"
        assert report["maybe_paid"] <= CONCURRENCY
        check_promise(api, tmp_path, kills=1)


@pytest.mark.parametrize("seed", [pytest.param(s, marks=() if s < 3 else pytest.mark.slow) for s in range(20)])
def test_row_26_kills_at_random_moments_lose_nothing_and_repeat_at_most_what_was_in_flight(tmp_path, seed):
    chance = random.Random(seed)
    kills = 0
    with FakeProvider(latency=0.01) as api:
        for _ in range(3):
            process, goal = sender(api, tmp_path), len(api.posts) + chance.randrange(1, ROWS // 2)
            while len(api.posts) < goal and process.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.03)
            process.kill()
            process.communicate()
            kills += 1
        finish(sender(api, tmp_path))
        check_promise(api, tmp_path, kills)


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_row_26_a_kill_at_any_passing_of_any_point_keeps_the_promise(tmp_path, point, count):
    with FakeProvider(latency=0.005) as api:
        finish(sender(api, tmp_path, point, str(count)), -signal.SIGKILL)
        kept, before = committed(tmp_path), len(api.posts)
        finish(sender(api, tmp_path))
        assert not {p.text for p in api.posts[before:]} & kept
        check_promise(api, tmp_path, kills=1)


# Signals


def wait_until(come: Callable[[], bool], process: Forked) -> None:
    end = time.monotonic() + 60
    while not come() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.005)
    assert come()


def after_posts(api: FakeProvider, process: Forked, count: int) -> None:
    wait_until(lambda: len(api.posts) >= count, process)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_row_27_one_signal_drains_prints_how_to_resume_and_repeats_nothing(tmp_path, signum, code):
    with FakeProvider(latency=0.1) as api:
        process = sender(api, tmp_path)
        after_posts(api, process, 20)
        process.send_signal(signum)
        _, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert "resume with: the command" in err
        assert len(committed(tmp_path)) == len(api.posts) < ROWS
        report = finish(sender(api, tmp_path))
        assert report["maybe_paid"] == 0
        check_promise(api, tmp_path, kills=0)


def test_row_27_a_second_signal_stops_at_once_and_leaves_a_sound_store(tmp_path):
    with FakeProvider(lambda post: hang(60) if post.number >= 20 else None) as api:
        process = sender(api, tmp_path)
        after_posts(api, process, 20 + CONCURRENCY)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert process.poll() is None, "the first signal waits for what is in flight"
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert time.monotonic() - begun < 5
        assert "stopped at once" in err
        kept = committed(tmp_path)
        assert len(kept) == 20
    with FakeProvider() as api:
        report = finish(sender(api, tmp_path))
        assert (report["from_store"], report["maybe_paid"]) == (20, CONCURRENCY)
        assert not {p.text for p in api.posts} & kept


@pytest.mark.slow
def test_row_27_a_drain_ends_after_ten_seconds_and_what_did_not_come_back_is_perhaps_paid(tmp_path):
    with FakeProvider(lambda post: hang(60) if post.number >= 20 else None) as api:
        process = sender(api, tmp_path)
        after_posts(api, process, 24)
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=40)
        assert process.returncode == 143
        assert 9 < time.monotonic() - begun < 25
    with FakeProvider() as api:
        assert finish(sender(api, tmp_path))["maybe_paid"] == 0
    with ResponseStore(tmp_path / "s.sqlite") as store:
        assert store.query("SELECT count(*) FROM attempt WHERE reason='interrupted'", []) == [(CONCURRENCY,)]


# The real command


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small task for the API."""
    folder = tmp_path_factory.mktemp("project")
    chance = random.Random(4)
    with (folder / "rows.jsonl").open("w") as out:
        for i in range(90):
            text = f"mail {i}."
            out.write(
                json.dumps(
                    {
                        "id": f"m{i}",
                        "text": text,
                        "label": label_of(text)[0] if chance.random() < 0.8 else chance.choice(LABELS),
                    }
                )
                + "\n"
            )
    price = '{input: 1, output: 2, as_of: 2026-11-22, source: "made up"}'
    for task in ("first", "second"):
        (folder / f"{task}.yaml").write_text(
            f"task: {task}\nkind: classify\ndataset: {{path: rows.jsonl, id: id, label: label}}\nlabels: [work, personal, spam, other]\n"
            f'prompt: {{system: "For {task}.", user: "{{text}}"}}\nprovider: together\n'
            f"cheap: {{model: small, usd_per_million_tokens: {price}, top_logprobs: 4, params: {{temperature: 0, max_tokens: 8}}}}\n"
            f"strong: {{model: large, usd_per_million_tokens: {price}, params: {{temperature: 0, max_tokens: 8}}, splits: [certify, test]}}\n"
            "target: {kind: match_strong, within: 0.05}\n"
        )
    return folder


def pipeline(
    api: FakeProvider | FakeBatchApi,
    project: Path,
    runs: Path,
    command: str,
    *options: str,
    task: str = "first",
    **environ: str,
) -> Forked:
    words = [
        command,
        str(project / f"{task}.yaml"),
        "--runs-dir",
        str(runs),
        "--reports-dir",
        str(runs / "reports"),
        *options,
    ]
    return start(["pipeline", *words], {**environment(api), **environ})


def artefacts(runs: Path) -> Iterator[tuple[str, object]]:
    (run,) = [p.parent for p in runs.glob("first/*/run.json")]
    yield from artefact_values.artefacts(run)


def test_row_26_a_killed_collect_ends_in_the_same_artefacts_as_one_that_was_not(tmp_path, project):
    with FakeProvider(latency=0.05) as api:
        port = api.port  # another address would be another service
        process = pipeline(api, project, tmp_path / "killed", "collect", "--concurrency", "4")
        after_posts(api, process, 40)
        process.kill()
        process.communicate()
        out, err = (again := pipeline(api, project, tmp_path / "killed", "collect", "--concurrency", "4")).communicate(
            timeout=120
        )
        assert again.returncode == 0, out + err
        asked = Counter((p.body["model"], p.text) for p in api.posts)
        assert sum(asked.values()) - len(asked) <= 4
    with FakeProvider(port=port) as api:
        out, err = (whole := pipeline(api, project, tmp_path / "whole", "collect")).communicate(timeout=120)
        assert whole.returncode == 0, out + err
    assert dict(artefacts(tmp_path / "killed")) == dict(artefacts(tmp_path / "whole"))
    assert {"replies.parquet", "tokens.parquet"} <= dict(artefacts(tmp_path / "whole")).keys()


WRITES = [
    ("write", "replies.parquet"),
    ("rename", "tokens.parquet"),
    ("rename", "predictions.parquet"),
    ("write", "predictions.parquet"),
    ("rename", "run.json"),
    ("rename", "sweep.parquet"),
    ("rename", "recommendation.json"),
    ("rename", "policy.json"),
]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, project: Path) -> tuple[dict[str, object], int]:
    """The artefacts of an evaluation that nothing interrupted, and the port of its service: another would be another service."""
    folder = tmp_path_factory.mktemp("evaluated")
    with FakeProvider() as api:
        out, err = (process := pipeline(api, project, folder, "evaluate")).communicate(timeout=300)
        assert process.returncode == 0, out + err
    found = dict(artefacts(folder))
    assert {"predictions.parquet", "recommendation.json", "policy.json"} <= found.keys()
    return found, api.port


@pytest.mark.parametrize(
    ("point", "name"), [pytest.param(*w, marks=() if i < 1 else pytest.mark.slow) for i, w in enumerate(WRITES)]
)
def test_row_26_a_kill_while_an_artefact_is_written_or_before_it_is_in_its_place_asks_nothing_again(
    tmp_path, project, evaluated, point, name
):
    whole, port = evaluated
    with FakeProvider(port=port) as api:
        dying = pipeline(api, project, tmp_path, "evaluate", DIE_AT=f"{point}:{name}")
        _, err = dying.communicate(timeout=300)
        assert dying.returncode == -signal.SIGKILL, err
        posts = len(api.posts)
        assert posts == (0 if name == "run.json" else len({(p.body["model"], p.text) for p in api.posts}))
        out, err = (again := pipeline(api, project, tmp_path, "evaluate")).communicate(timeout=300)
        assert again.returncode == 0, out + err
        assert len(api.posts) == posts or name == "run.json"
    assert dict(artefacts(tmp_path)) == whole
    assert not list(tmp_path.rglob("*.tmp")), "what the killed process left is swept up"


def without_run(value: object) -> object:
    return {k: v for k, v in value.items() if k != "run_id"} if isinstance(value, dict) else value


BATCHES = ("--provider", "together-batch")


@pytest.mark.slow
def test_an_evaluation_through_batches_ends_like_one_through_the_chat_api_and_submits_nothing_twice(
    tmp_path, project, evaluated
):
    with FakeBatchApi(polls=0) as api:
        for _ in range(2):
            out, err = (process := pipeline(api, project, tmp_path, "evaluate", *BATCHES)).communicate(timeout=300)
            assert process.returncode == 0, out + err
    found = dict(artefacts(tmp_path))
    asked = Counter(json.loads(found["replies.parquet"])["role"].values())
    assert [len(ids) for ids in api.submitted] == [5, asked["cheap"] - 5, 5, asked["strong"] - 5]
    for name in ("predictions.parquet", "calibration.json", "recommendation.json"):
        assert without_run(found[name]) == without_run(evaluated[0][name])


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGHUP, 129),
    ],
)
@pytest.mark.slow
def test_a_signal_while_a_batch_is_out_says_how_to_fetch_it_and_the_next_run_submits_nothing_anew(
    tmp_path, project, signum, code
):
    with FakeBatchApi([complete(), go_on()], polls=0) as api:
        process = pipeline(api, project, tmp_path, "collect", *BATCHES)
        wait_until(lambda: any(job.status == "IN_PROGRESS" for job in api.jobs.values()), process)
        process.send_signal(signum)
        begun = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert time.monotonic() - begun < 5, "it does not wait for the next look"
        assert re.search(r"fetch them with: \S+ -m pipeline collect .*first\.yaml .*--provider together-batch", err)
        (out,) = (job.id for job in api.jobs.values() if job.status == "IN_PROGRESS")
        api.release()
        before = len(api.calls)
        _, err = (again := pipeline(api, project, tmp_path, "collect", *BATCHES)).communicate(timeout=120)
        assert again.returncode == 0, err
        assert api.calls[before] == ("GET", f"/v1/batches/{out}"), "fetched before anything else"
        asked = Counter(custom_id for ids in api.submitted for custom_id in ids)
        assert set(asked.values()) == {1}
    with sqlite3.connect(tmp_path / "responses.sqlite") as direct:
        kept = {request_id for (request_id,) in direct.execute("SELECT request_id FROM attempt WHERE state='ok'")}
    direct.close()
    assert kept == set(asked)


@pytest.mark.slow
def test_row_30_the_second_run_of_one_task_is_refused_naming_the_first_and_another_task_goes_on(tmp_path, project):
    with FakeProvider(lambda post: hang(60) if "first" in str(post.body) and post.number > 5 else None) as api:
        one = pipeline(api, project, tmp_path, "collect")
        try:
            after_posts(api, one, 8)
            twin = pipeline(api, project, tmp_path, "collect")
            other = pipeline(api, project, tmp_path, "collect", task="second")
            _, err = twin.communicate(timeout=120)
            assert twin.returncode == 2
            assert str(one.pid) in err
            out, err = other.communicate(timeout=120)
            assert other.returncode == 0, out + err
        finally:
            one.kill()
            one.communicate()
        assert sum("second" in str(p.body) for p in api.posts) >= 90
    with FakeProvider() as api:  # the dead holder's lock is void
        out, err = (after := pipeline(api, project, tmp_path, "collect")).communicate(timeout=120)
        assert after.returncode == 0, out + err


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_row_26_an_evaluation_killed_at_a_random_moment_ends_like_one_that_was_not(tmp_path, project, evaluated, seed):
    chance = random.Random(seed)
    whole, port = evaluated
    with FakeProvider(latency=0.02, port=port) as api:
        process = pipeline(api, project, tmp_path, "evaluate", "--concurrency", "4")
        if chance.random() < 0.5:  # while sending, else at any time, writing Parquet included
            after_posts(api, process, chance.randrange(1, 100))
        else:
            after_posts(api, process, 100)
            time.sleep(chance.random() * 6)
        process.kill()
        process.communicate()
        out, err = (again := pipeline(api, project, tmp_path, "evaluate", "--concurrency", "4")).communicate(
            timeout=300
        )
        assert again.returncode == 0, out + err
        asked = Counter((p.body["model"], p.text) for p in api.posts)
        assert sum(asked.values()) - len(asked) <= 4
        posts = len(api.posts)
        third = pipeline(api, project, tmp_path, "collect")
        third.communicate(timeout=300)
        assert (third.returncode, len(api.posts)) == (0, posts)
    assert dict(artefacts(tmp_path)) == whole
    assert not list(tmp_path.rglob("*.tmp"))
