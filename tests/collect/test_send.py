"""Sending, end to end over a real socket: each request once, nothing lost, money counted as the ledger counts it."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest
from asking import PRICE, request, rows
from fake_provider import FakeProvider, completion, http, ok

from pipeline.collect.sending.missing import LOOKAHEAD
from pipeline.collect.sending.spend_cap import usd_bound
from pipeline.errors import AccessError, CapReached, UsageError

pytest_plugins = ("asking_fixtures",)


def test_every_request_is_sent_once_and_its_reply_kept_as_it_came(ask, store):
    wanted = rows(40)
    with FakeProvider() as api:
        report = ask(api, wanted)
    assert (report.sent, report.kept, report.failed, report.attempts) == (40, 40, 0, 40)
    assert len(api.posts) == 40
    for reply, req in zip(store.replies(r.request_id for r in wanted), wanted, strict=True):
        expected = completion({"messages": list(req.messages), "model": req.model, "logprobs": 3})
        assert json.loads(reply.body) == expected
        assert (reply.input_tokens, reply.output_tokens) == (expected["usage"]["prompt_tokens"], 1)
        assert reply.seconds is not None
        assert reply.seconds > 0


def test_dollars_reported_are_the_ledgers(ask):
    with FakeProvider() as api:
        report = ask(api, rows(25))
    assert report.usd == pytest.approx(api.usd)
    assert report.unknown_usd == 0


def test_a_second_run_sends_nothing(ask):
    with FakeProvider() as api:
        ask(api, rows(10))
        report = ask(api, rows(10))
        assert len(api.posts) == 10
    assert (report.sent, report.from_store) == (0, 10)


def test_only_requests_that_changed_are_sent(ask):
    with FakeProvider() as api:
        ask(api, rows(10))
        changed = [request(f"row {i}.", params={"temperature": 0, "max_tokens": 8 if i < 7 else 9}) for i in range(10)]
        report = ask(api, changed)
    assert (report.sent, report.from_store) == (3, 7)


def test_identical_rows_cost_one_post_even_when_far_apart_or_in_flight_together(ask, store):
    texts = ["same", "same", *(f"other {i}" for i in range(600)), "same"]
    wanted = [request(text, example_id=str(i)) for i, text in enumerate(texts)]
    with FakeProvider() as api:
        report = ask(api, wanted, concurrency=16)
        assert api.count("same") == 1
    assert (report.sent, report.identical) == (601, 2)


@pytest.mark.parametrize("concurrency", [1, 4, 32])
def test_identical_rows_on_both_sides_of_a_chunk_cost_one_post(ask, concurrency):
    """The second is looked up when the first has come back but may not be on disk yet."""
    unique = [f"row {i}." for i in range(LOOKAHEAD)]
    texts = [*unique, *reversed(unique[-40:])]
    with FakeProvider() as api:
        report = ask(api, [request(text, example_id=str(i)) for i, text in enumerate(texts)], concurrency=concurrency)
        assert len(api.posts) == LOOKAHEAD
    assert (report.sent, report.identical) == (LOOKAHEAD, 40)


def test_a_repeat_index_asks_again(ask):
    with FakeProvider() as api:
        ask(api, [request("x"), request("x", repeat=1)])
        assert len(api.posts) == 2


def test_no_more_than_concurrency_requests_are_in_flight(ask):
    with FakeProvider(latency=0.01) as api:
        ask(api, rows(60), concurrency=5, start=5)
        assert api.most_in_flight == 5


def test_the_cap_is_never_passed_and_the_run_resumes(ask):
    with FakeProvider() as api:
        with pytest.raises(CapReached, match="max-usd") as stopped:
            ask(api, rows(50), max_usd=0.0005)
        assert 0 < api.usd < 0.0005
        first = len(api.posts)
        assert stopped.value.report.kept == first < 50
        report = ask(api, rows(50), max_usd=1)
        assert len(api.posts) == 50
    assert report.sent == 50 - first


def test_the_cap_counts_replies_without_usage_at_their_upper_bound(ask):
    with FakeProvider(lambda post: ok(usage=None)) as api:
        with pytest.raises(CapReached):
            ask(api, rows(50), max_usd=0.002)
        bound = (len("row 1.") + len("user") + 200 + 2 * 8) / 1e6
        assert len(api.posts) == int(0.002 / bound)


def test_what_a_template_writes_into_the_prompt_counts_in_the_upper_bound():
    tool = {
        "type": "function",
        "function": {"name": "label", "description": "é" * 1000, "parameters": {"type": "object"}},
    }
    params = {"temperature": 0, "max_tokens": 8}
    plain = usd_bound(request("x", params=params), PRICE)
    for written in (
        {"tools": [tool] * 3},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": tool}}},
    ):
        more = usd_bound(request("x", params=params | written), PRICE) - plain
        assert more * 1e6 >= len(json.dumps(written, indent=4))
    assert usd_bound(request("x", params=params | {"reasoning": {"enabled": False}, "top_p": 0.5}), PRICE) == plain


def test_one_bad_key_costs_one_post(ask):
    with FakeProvider(lambda post: http(401, message="Invalid API key")) as api:
        with pytest.raises(AccessError, match="TOGETHER_API_KEY"):
            ask(api, rows(100), concurrency=32)
        assert len(api.posts) == 1


def test_rows_refused_one_after_the_other_in_the_same_words_stop_the_run_and_are_asked_again(ask):
    with FakeProvider(lambda post: http(400, message=f"unknown field at {post.number}")) as api:
        with pytest.raises(AccessError, match="in a row"):
            ask(api, rows(100), concurrency=2)
        assert len(api.posts) <= 12
    with FakeProvider() as api:
        assert ask(api, rows(100)).sent == 100


def test_a_parameter_that_the_service_calls_too_long_does_not_cost_every_row_its_answer(ask):
    """The message reads like a row's fault, but nothing was ever answered."""
    with FakeProvider(lambda post: http(400, message="max_tokens exceeds the context length of 4096")) as api:
        with pytest.raises(AccessError, match="in a row"):
            ask(api, rows(100), concurrency=2)
        assert len(api.posts) <= 12


@pytest.mark.parametrize(("status", "message"), [(400, "maximum context length is 4096"), (413, "Payload Too Large")])
def test_long_rows_one_after_the_other_are_each_recorded_and_the_run_goes_on(ask, status, message):
    with FakeProvider(lambda post: http(status, message=message) if 5 < post.number < 45 else None) as api:
        report = ask(api, rows(60), concurrency=2)
    assert (report.kept, report.failed_by_reason) == (21, {"too_long": 39})


def test_memory_does_not_hold_the_rows(ask):
    """The iterator is read only a little ahead of what is in flight."""
    read = 0

    def endless():
        nonlocal read
        while True:
            read += 1
            yield request(f"row {read}.")

    with FakeProvider() as api, pytest.raises(CapReached):
        ask(api, endless(), max_usd=0.01)
    assert read <= len(api.posts) + 256


def test_no_request_in_flight_is_no_run(ask):
    with FakeProvider() as api, pytest.raises(UsageError, match="concurrency"):
        ask(api, rows(1), concurrency=0)


def test_an_attempt_is_on_disk_before_it_leaves_however_slow_the_disk(ask, store, monkeypatch):
    commit, noted = store.transaction, []

    def slow(*given, **named):
        time.sleep(0.03)
        return commit(*given, **named)

    def arrived(post):
        with sqlite3.connect(f"file:{store.path}?mode=ro", uri=True) as other:
            found = other.execute("SELECT count(*) FROM open WHERE example_id=?", [post.text]).fetchone()
        noted.append(found[0])
        return ok()

    monkeypatch.setattr(store, "transaction", slow)
    with FakeProvider(arrived) as api:
        ask(api, rows(6))
    assert noted == [1] * 6
