"""What a service and a network do to us, and what the sender makes of it: rows 1-9, 20-22, 31 and 62 of the fault matrix."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from email.utils import formatdate

import pytest
from asking import request, rows
from fake_provider import FakeProvider, cut, drip, hang, http, ok, raw, redirect, reset

from pipeline.collect.sending.rate_limit import ROUNDS, Pace, wait_asked
from pipeline.errors import AccessError, CreditExhausted, ProviderDown

pytest_plugins = ("asking_fixtures",)

HTML = raw(b"<!DOCTYPE html><html><body>Bad gateway</body></html>", content_type="text/html")


# Rows 1 and 2: the service says how long to wait


@pytest.mark.parametrize(
    "headers",
    [{"Retry-After": "0.5"}, {"retry-after-ms": "500"}, {"x-ratelimit-reset": "0.5"}],
    ids=lambda h: next(iter(h)),
)
def test_row_01_after_429_nobody_sends_before_the_time_asked_for_and_no_try_is_lost(ask, headers):
    with FakeProvider(lambda post: http(429, headers) if post.number == 9 else None, latency=0.02) as api:
        report = ask(api, rows(30), start=4)
    refused = api.posts[9].at
    too_early = [p for p in api.posts[10:] if p.at < refused + 0.5]
    assert len(too_early) <= 8, "only what was on its way already"
    assert len(api.posts) == 31
    assert (report.kept, report.failed, report.troubles) == (30, 0, {"http_429": 1})


def test_after_503_with_retry_after_nobody_sends_before_that_time(ask):
    busy = http(503, {"Retry-After": "1.5"})
    with FakeProvider(lambda post: busy if post.number == 9 else None, latency=0.02) as api:
        report = ask(api, rows(30), start=4, concurrency=4)
    refused = api.posts[9].at
    assert sum(p.at < refused + 1.5 for p in api.posts[10:]) <= 4, "only what was on its way already"
    assert (report.kept, report.failed, report.troubles) == (30, 0, {"http_503": 1})


@pytest.mark.parametrize(("asked", "most"), [(0.5, 0.05), (5.0, 0.5), (200.0, 1.0)])
def test_those_who_wait_for_the_time_asked_for_come_back_spread_out_but_soon_after_it(asked, most):
    async def came_back(seed):
        now = [0.0]
        pace = Pace(8, start=8, clock=lambda: now[0], seed=seed)

        async def sleep(seconds):
            now[0] += seconds

        pace.sleep = sleep
        pace.overloaded(0.0, asked)
        return await pace.enter() - asked

    late = [asyncio.run(came_back(seed)) for seed in range(40)]
    assert 0 <= min(late) < most / 4
    assert most / 2 < max(late) <= most
    assert len(set(late)) == 40


def test_a_wait_that_nobody_told_is_drawn_anew_from_a_span_that_doubles_with_each_round():
    for rounds in (1, 2, 3):
        waits = []
        for seed in range(40):
            now = [0.0]
            pace = Pace(8, start=8, clock=lambda now=now: now[0], seed=seed)
            for _ in range(rounds):
                now[0] += 100.0
                pace.overloaded(now[0], None)
            waits.append(pace.waits)
        assert 2**rounds / 2 < max(waits) <= 2**rounds
        assert min(waits) < 2**rounds / 4
        assert len(set(waits)) == 40


def test_row_02_retry_after_is_read_as_seconds_milliseconds_or_a_date():
    now = 1_800_000_000.0
    assert wait_asked({"retry-after": "2"}, now) == 2
    assert wait_asked({"retry-after-ms": "1500", "retry-after": "9"}, now) == 1.5
    assert wait_asked({"retry-after": formatdate(now + 90, usegmt=True)}, now) == 90
    assert wait_asked({"retry-after": formatdate(now - 90, usegmt=True)}, now) == 0
    assert wait_asked({"x-ratelimit-reset": "7.5"}, now) == 7.5
    assert wait_asked({"x-ratelimit-reset": str(int(now) + 12)}, now) == 12
    assert wait_asked({"retry-after": "soon", "x-ratelimit-reset": "nan"}, now) is None
    assert wait_asked({}, now) is None


def test_row_02_a_wait_longer_than_the_limit_stops_the_run_resumably(ask):
    with FakeProvider({"row 5.": [http(429, {"Retry-After": "301"})]}) as api:
        with pytest.raises(ProviderDown, match="301") as stopped:
            ask(api, rows(30))
        assert stopped.value.exit_code == 3
        assert ask(api, rows(30)).failed == 0
        assert len(api.posts) == 31


def test_retry_after_beyond_the_sdks_own_limit_of_a_minute_is_honoured():
    now = [0.0]
    pace = Pace(8, start=8, clock=lambda: now[0])
    pace.overloaded(0.0, 200.0)
    assert pace.waits == 200.0


# Rows 3 and 4: storms


def test_row_03_a_storm_of_429_opens_the_circuit_after_a_bounded_number_of_posts(ask):
    with FakeProvider(lambda post: http(429)) as api, pytest.raises(ProviderDown, match="429"):
        ask(api, rows(500), concurrency=64, start=64)
    assert len(api.posts) <= 64 + 32 + 16 + 8 + 4 + 2 + ROUNDS


@pytest.mark.parametrize("status", [500, 502, 503, 504, 524, 529])
def test_row_04_single_server_errors_are_retried_and_counted(ask, status):
    with FakeProvider({"row 3.": [http(status)], "row 4.": [http(status), http(status)]}) as api:
        report = ask(api, rows(10))
    assert (report.kept, report.failed, len(api.posts)) == (10, 0, 13)
    assert report.troubles == {f"http_{status}": 3}


def test_row_04_a_burst_of_503_is_waited_out(ask):
    ends: list[float] = []

    def answer(post):
        if post.number == 20:
            ends.append(post.at + 0.3)
        return http(503) if ends and post.at < ends[0] else None

    with FakeProvider(answer) as api:
        report = ask(api, rows(100), concurrency=16, backoff=0.1)
    assert (report.kept, report.failed) == (100, 0)
    assert report.troubles["http_503"] >= 1


def test_a_service_that_stays_down_ends_the_run_before_every_row_has_failed(ask, store):
    with FakeProvider(lambda post: http(500) if post.number >= 20 else None) as api:
        with pytest.raises(ProviderDown, match="500") as stopped:
            ask(api, rows(1000), concurrency=16, backoff=0.001)
        assert stopped.value.report.kept == 20
        assert len(api.posts) < 150


def test_503_cuts_the_pace_less_than_429():
    gentle, hard = Pace(64, start=64), Pace(64, start=64)
    now = time.monotonic() + 1
    gentle.failed(now, "503")
    hard.overloaded(now, None)
    assert (gentle.limit, hard.limit) == (48, 32)


def test_the_pace_doubles_until_the_first_objection_and_then_grows_by_one():
    pace = Pace(256, start=16)
    seen = [pace.limit]
    for _ in range(16 + 32):
        pace.succeeded()
    seen.append(pace.limit)
    pace.overloaded(time.monotonic(), 0.0)
    seen.append(pace.limit)
    for _ in range(32):
        pace.succeeded()
    seen.append(pace.limit)
    assert seen == [16, 64, 32, 33]


def test_429s_of_one_window_cut_the_pace_once():
    pace = Pace(64, start=64)
    entered = time.monotonic()
    for _ in range(20):
        pace.overloaded(entered, 0.0)
    assert pace.limit == 32


# Row 5: never sent, so never paid


def test_row_05_a_refused_connection_is_never_counted_as_perhaps_paid(ask):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ProviderDown, match="refused") as stopped:
            ask(f"http://127.0.0.1:{unused.getsockname()[1]}", rows(50), backoff=0.001)
    assert stopped.value.report.maybe_paid == 0
    assert stopped.value.report.unknown_usd == 0
    assert set(stopped.value.report.troubles) == {"refused"}


def test_row_05_an_unknown_host_is_never_counted_as_perhaps_paid(ask):
    with pytest.raises(ProviderDown, match="dns") as stopped:
        ask("https://no-such-host.invalid", rows(50), backoff=0.001)
    assert stopped.value.report.maybe_paid == 0


def test_row_05_a_tls_error_is_never_counted_as_perhaps_paid(ask):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer_in_plain_text, args=(server,), daemon=True).start()
        with pytest.raises(ProviderDown, match="tls") as stopped:
            ask(f"https://127.0.0.1:{server.getsockname()[1]}", rows(50), backoff=0.001)
    assert stopped.value.report.maybe_paid == 0


def _answer_in_plain_text(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


# Rows 6 and 7: sent, and no whole reply


@pytest.mark.parametrize("step", [reset, cut], ids=["reset", "cut body"])
def test_row_06_a_connection_that_breaks_after_the_request_is_perhaps_paid_and_asked_once_more(ask, store, step):
    with FakeProvider({"row 3.": [step()], "row 4.": [step(), step(), step()]}) as api:
        report = ask(api, rows(10))
        assert api.count("row 3.") == 2
        assert api.count("row 4.") == 2
    assert (report.kept, report.maybe_paid, report.failed_by_reason) == (9, 3, {"cut": 1})
    assert report.unknown_usd == pytest.approx(3 * (6 + 4 + 200 + 16) / 1e6)
    assert store.failure(request("row 4.").request_id).attempts == 2


@pytest.mark.parametrize("step", [hang, drip], ids=["nothing comes", "a byte now and then"])
def test_row_07_one_deadline_covers_the_whole_attempt(ask, step):
    with FakeProvider({"row 3.": [step()]}) as api:
        begun = time.monotonic()
        report = ask(api, rows(6), deadline=0.6)
    assert time.monotonic() - begun < 10
    assert (report.kept, report.maybe_paid, report.troubles) == (6, 1, {"timeout": 1})


# Rows 8 and 9: replies that are none


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (raw(b'{"choices": [{"mess'), "not_json"),
        (raw(b"[]"), "not_json"),
        (raw(b""), "not_json"),
        (HTML, "html"),
        (raw(b'{"error": {"message": "upstream"}}'), "error_body"),
    ],
    ids=["cut JSON", "no object", "nothing", "web page", "error with status 200"],
)
def test_rows_08_09_a_reply_that_is_none_is_retried_and_its_raw_body_kept(ask, store, step, reason):
    with FakeProvider({"row 3.": [step], "row 4.": [step] * 9}) as api:
        report = ask(api, rows(8))
        assert api.count("row 3.") == 2
    assert report.kept == 7
    assert report.failed_by_reason == {reason: 1}
    bodies = store.bodies(request("row 4.").request_id)
    assert bodies
    assert set(bodies) == {step.body}


# Rows 20 to 22: refusals


@pytest.mark.parametrize(
    ("status", "message", "error", "code"),
    [
        (401, "bad key", AccessError, 2),
        (402, "", CreditExhausted, 3),
        (403, "no access to this model", AccessError, 2),
        (404, "no such model", AccessError, 2),
        (429, "insufficient_quota: check your billing", CreditExhausted, 3),
    ],
)
def test_row_20_what_no_retry_can_mend_stops_the_run_at_one_post(ask, status, message, error, code):
    with FakeProvider(lambda post: http(status, message=message)) as api:
        with pytest.raises(error) as stopped:
            ask(api, rows(50), concurrency=16)
        assert len(api.posts) == 1
    assert stopped.value.exit_code == code


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (400, "This model's maximum context length is 4096 tokens", "too_long"),
        (403, "Input token count exceeds the context window: too long", "too_long"),
        (413, "too large", "too_long"),
        (422, "input is too long", "too_long"),
        (400, "blocked by content filter", "filtered"),
        (400, "exceed_context_size_error", "too_long"),
        (422, "cannot process", "http_422"),
    ],
)
def test_row_21_a_row_that_is_refused_is_recorded_never_asked_again_and_the_others_go_on(
    ask, store, status, message, reason
):
    with FakeProvider({"row 3.": [http(status, message=message)] * 5}) as api:
        report = ask(api, rows(10))
        assert api.count("row 3.") == 1
        again = ask(api, rows(10))
        assert len(api.posts) == 10
    assert (report.kept, report.failed_by_reason) == (9, {reason: 1})
    assert (again.sent, again.failed_by_reason) == (0, {reason: 1})
    failure = store.failure(request("row 3.").request_id)
    assert (failure.reason, failure.http_status, failure.rejected) == (reason, status, True)


def test_a_row_whose_retries_are_used_up_is_asked_again_by_the_next_run(ask):
    with FakeProvider({"row 3.": [http(500)] * 6}) as api:
        assert ask(api, rows(10)).failed_by_reason == {"http_500": 1}
        assert ask(api, rows(10)).kept == 1


def test_row_59_a_redirect_is_not_followed(ask):
    with FakeProvider() as other, FakeProvider(lambda post: redirect(other.url + "/v1/chat/completions")) as api:
        with pytest.raises(AccessError, match="redirect"):
            ask(api, rows(5))
        assert not other.posts


# Row 31


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0, 3_600.0], ids=["a day back", "a day forward", "an hour forward"])
def test_row_31_a_clock_that_jumps_changes_no_wait_and_no_key(ask, store, monkeypatch, jump):
    real = time.time
    jumped = 0.0

    def answer(post):
        nonlocal jumped
        if post.number == 9:
            jumped = jump
            return http(429, {"Retry-After": "0.3"})
        return None

    monkeypatch.setattr(time, "time", lambda: real() + jumped)
    with FakeProvider(answer) as api:
        begun = time.monotonic()
        assert ask(api, rows(20), start=2, concurrency=2).kept == 20
        assert 0.3 <= time.monotonic() - begun < 20
        assert ask(api, rows(20)).from_store == 20
    assert all(reply.seconds < 20 for reply in store.replies(r.request_id for r in rows(20)))


# Row 62


def test_row_62_identical_rows_asked_at_the_same_time_cost_one_post(ask):
    with FakeProvider(lambda post: ok(), latency=0.05) as api:
        report = ask(api, [request("same", example_id=str(i)) for i in range(50)], concurrency=16, start=16)
        assert len(api.posts) == 1
    assert report.identical == 49
