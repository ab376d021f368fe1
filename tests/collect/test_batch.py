"""The batch API: both result files are read, what is missing is asked again, and a crash never submits twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from asking import KEY, PRICE, request, rows
from fake_batch import FakeBatchApi, answer, complete, error, errors_only, partly
from fake_provider import FakeProvider, completion

from cascade_threshold.pricing import price_of
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.providers import together_batch
from pipeline.collect.sending import batch_sender, result_files
from pipeline.collect.sending.batch_sender import send_batches
from pipeline.collect.store import admin
from pipeline.collect.store.batch_ledger import submitted
from pipeline.collect.store.reserve import Reserve
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import AccessError, CapReached, CreditExhausted, ProviderDown, UsageError

pytest_plugins = ("asking_fixtures",)

HALVED = replace(PRICE, batch_discount=0.5)


@pytest.fixture
def batch(store, monkeypatch):
    def run(api, requests, **options):
        monkeypatch.setenv("TOGETHER_API_KEY", KEY)
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        provider = together_batch.from_environment()
        provider.client = provider.client.with_options(max_retries=0)
        return send_batches(
            requests,
            provider,
            store,
            **({"task": "mail", "price": PRICE, "progress": False, "poll": 0.01, "looks": (0, 0, 0)} | options),
        )

    return run


def keep_all(store: ResponseStore, requests: list) -> None:
    for reply, req in zip(store.replies(r.request_id for r in requests), requests, strict=True):
        assert json.loads(reply.body) == completion(
            {"messages": list(req.messages), "model": req.model, "logprobs": req.top_logprobs}
        )
        assert (reply.seconds, reply.wire_form, reply.service) == (None, "batch", "together")


def test_a_canary_goes_first_then_everything_else_and_the_order_of_results_does_not_matter(batch, store):
    with FakeBatchApi() as api:
        report = batch(api, rows(40))
        assert [len(ids) for ids in api.submitted] == [5, 35]
    keep_all(store, rows(40))
    assert (report.sent, report.kept, report.failed, report.attempts) == (40, 40, 0, 40)
    assert report.usd == pytest.approx(
        sum(r.input_tokens + 2 * r.output_tokens for r in store.replies(x.request_id for x in rows(40))) / 1e6
    )


def test_a_second_run_submits_nothing_and_needs_no_canary_for_new_rows(batch):
    with FakeBatchApi() as api:
        batch(api, rows(40))
        assert batch(api, rows(40)).from_store == 40
        batch(api, rows(50))
        assert [len(ids) for ids in api.submitted] == [5, 35, 10]


def test_replies_of_the_batch_api_answer_the_same_requests_as_the_chat_api(batch, ask):
    with FakeBatchApi() as api:
        batch(api, rows(10))
    with FakeProvider() as chat:
        assert ask(chat, rows(12)).sent == 2


def test_files_hold_no_more_than_the_limits(batch):
    with FakeBatchApi() as api:
        batch(api, rows(40), most_requests=10)
        assert [len(ids) for ids in api.submitted] == [5, 10, 10, 10, 5]
    with FakeBatchApi() as api:
        batch(api, [request(f"another {i}." + "x" * 1000) for i in range(20)], most_bytes=5_000)
        assert max(len(api.files[job.file_id]) for job in api.jobs.values()) <= 5_000


def test_an_expired_batch_keeps_what_came_and_asks_again_for_the_rest(batch, store):
    with FakeBatchApi([complete(), partly("EXPIRED", 0.4)]) as api:
        report = batch(api, rows(40))
        assert [len(ids) for ids in api.submitted] == [5, 35, 21]
    keep_all(store, rows(40))
    assert (report.kept, report.failed, report.troubles["batch_expired"]) == (40, 0, 21)


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "EXPIRED", "COMPLETED"])
def test_both_files_are_read_in_every_terminal_state(batch, store, status):
    def both(lines):
        return status, [answer(x) for x in lines[:20]], [error(x) for x in lines[20:]]

    with FakeBatchApi([complete(), both]) as api:
        report = batch(api, rows(40))
        assert [len(ids) for ids in api.submitted] == [5, 35, 15]
    keep_all(store, rows(40))
    assert report.troubles["http_500"] == 15


def test_an_error_file_alone_is_read_and_refused_rows_are_not_asked_again(batch, store):
    with FakeBatchApi([complete(), errors_only(message="maximum context length is 4096 tokens", code=400)]) as api:
        report = batch(api, rows(15))
        assert [len(ids) for ids in api.submitted] == [5, 10]
        assert batch(api, rows(15)).failed_by_reason == {"too_long": 10}
        assert len(api.submitted) == 2
    assert (report.kept, report.failed_by_reason) == (5, {"too_long": 10})


def test_rows_that_never_come_back_are_given_up_after_three_rounds(batch):
    with FakeBatchApi([complete(), *[errors_only()] * 9]) as api:
        report = batch(api, rows(15))
        assert [len(ids) for ids in api.submitted] == [5, 10, 10, 10]
    assert (report.kept, report.failed_by_reason) == (5, {"http_500": 10})


def test_unknown_repeated_and_broken_lines_are_counted_and_do_no_harm(batch, store):
    def odd(out):
        return [*out, out[0], {"custom_id": "nobody's", "response": out[0]["response"]}, b"{broken", [], {"no": "id"}]

    with FakeBatchApi([complete(), complete(odd)]) as api:
        report = batch(api, rows(15))
    keep_all(store, rows(15))
    assert (report.kept, report.troubles) == (15, {"batch_unknown_line": 4, "batch_duplicate_line": 1})


def test_an_answer_wins_over_an_error_for_the_same_row(batch, store):
    def both(lines):
        return "COMPLETED", [error(lines[0]), *map(answer, lines[1:])], [answer(lines[0])]

    with FakeBatchApi([complete(), both]) as api:
        assert batch(api, rows(15)).kept == 15
        assert len(api.submitted) == 2
    keep_all(store, rows(15))


# Results that do not arrive as they are

SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a page": lambda content: b"<!DOCTYPE html>\n<html>Bad gateway</html>\n",
    "an error": lambda content: b'{"error": {"message": "try later"}}',
    "nothing": lambda content: b"",
    "a part": lambda content: content[: len(content) // 2],
    "all but the end": lambda content: content[:-5],
    "lines without an end": lambda content: content[:-1].rpartition(b"\n")[0][:-3],
}


def spoil(api: FakeBatchApi, how: Callable[[bytes], bytes], times: int) -> None:
    """The next answers to a download of the second batch's results are spoilt."""
    left = times

    def instead(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
        nonlocal left
        if not path.endswith("-1-output/content") or left == 0:
            return None
        left -= 1
        return how(api.files[path.split("/")[3]]), {}

    api.instead = instead


def forms(fast: str) -> list[Any]:
    return [pytest.param(form, marks=() if form == fast else pytest.mark.slow) for form in SPOILT]


@pytest.mark.parametrize("how", forms("a page"))
def test_results_that_arrive_otherwise_once_are_fetched_again_and_no_request_is_submitted_twice(batch, store, how):
    with FakeBatchApi() as api:
        spoil(api, SPOILT[how], 1)
        assert batch(api, rows(20)).kept == 20
        assert api.asked() == 20
    keep_all(store, rows(20))


@pytest.mark.parametrize("how", forms("a part"))
def test_results_that_never_arrive_whole_want_a_word_before_they_are_asked_again(batch, store, how):
    with FakeBatchApi() as api:
        spoil(api, SPOILT[how], -1)
        for _ in range(2):
            with pytest.raises(
                UsageError, match=r"15 requests, which may have been paid for\. The same command.*--resend-lost"
            ):
                batch(api, rows(20))
        assert api.asked() == 20
        arrived = SPOILT[how](api.files["file-" + list(api.jobs)[1] + "-output"]).splitlines()
        report = batch(api, rows(20), resend_lost=True)
    whole = sum(line.startswith(b'{"custom_id"') and line.endswith(b"}}}") for line in arrived)
    torn = sum(b'"custom_id"' in line for line in arrived) - whole
    assert (api.asked(), report.maybe_paid) == (20 + 15 - whole, 15 - whole - torn), "what arrived is kept"
    assert (whole > 0) == (how in ("a part", "all but the end", "lines without an end"))
    keep_all(store, rows(20))


def test_the_word_is_for_what_was_lost_when_it_was_given_not_for_batches_of_the_same_run(batch):
    unknown = True
    api = FakeBatchApi(refuse=lambda method, path: 404 if unknown and path.startswith("/v1/batches/") else None)
    with api:
        with pytest.raises(UsageError, match="--resend-lost"):
            batch(api, rows(5))
        with pytest.raises(UsageError, match="--resend-lost"):
            batch(api, rows(5), resend_lost=True)
        assert api.asked() == 10, "the first batch again, and the second is known the next time"
        unknown = False
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 10


def test_a_batch_that_is_completed_names_its_results_late(batch):
    def instead(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
        if not path.endswith("-1") or api.calls.count((method, path)) > 2:
            return None
        return json.dumps({"id": path.rpartition("/")[2], "status": "COMPLETED"}).encode(), {}

    with FakeBatchApi() as api:
        api.instead = instead
        assert batch(api, rows(20)).kept == 20
        assert api.asked() == 20


def test_results_that_come_otherwise_each_time_are_left_for_the_next_run(batch, store):
    def fewer(method: str, path: str) -> tuple[bytes, dict[str, str]] | None:
        if not path.endswith("-1-output/content"):
            return None
        lines = api.files[path.split("/")[3]].splitlines(keepends=True)
        return b"".join(lines[: api.calls.count((method, path))]), {}

    with FakeBatchApi() as api:
        api.instead = fewer
        with pytest.raises(ProviderDown, match=r"other results of batch .* each time; the same command"):
            batch(api, rows(20))
        api.instead = lambda method, path: None
        assert batch(api, rows(20)).kept == 15
        assert api.asked() == 20


def test_rows_are_uploaded_to_no_host_that_the_service_did_not_name(batch):
    with FakeBatchApi(refuse=lambda method, path: 200 if path == "/v1/files" else None) as api:
        with pytest.raises(ProviderDown, match="names no address to upload to"):
            batch(api, rows(5))
        api.refuse = lambda *call: None
        assert batch(api, rows(5)).kept == 5


def test_a_canary_without_logprobs_ends_the_run_after_five_requests(batch):
    def silent(out):
        for line in out:
            line["response"]["body"]["choices"][0]["logprobs"] = None
        return out

    with FakeBatchApi([complete(silent)]) as api:
        with pytest.raises(UsageError, match="--provider together"):
            batch(api, rows(40))
        assert api.asked() == 5


def test_the_strong_role_needs_no_logprobs_in_its_canary(batch):
    strong = [request(f"row {i}.", role="strong", top_logprobs=None) for i in range(10)]
    with FakeBatchApi() as api:
        assert batch(api, strong).kept == 10


def test_a_canary_of_which_nothing_comes_back_ends_the_run(batch):
    with FakeBatchApi([errors_only()]) as api:
        with pytest.raises(AccessError, match="canary"):
            batch(api, rows(40))
        assert api.asked() == 5


def test_a_model_that_wants_a_boolean_gets_it_in_the_next_batch(batch):
    def picky(lines):
        wrong = [x for x in lines if x["body"]["logprobs"] is not True]
        return (
            "COMPLETED",
            [answer(x) for x in lines if x not in wrong],
            [error(x, "logprobs must be a boolean", 400) for x in wrong],
        )

    with FakeBatchApi([picky] * 9) as api:
        report = batch(api, rows(30))
        assert [len(ids) for ids in api.submitted] == [5, 5, 20, 5]
    assert (report.kept, report.failed) == (30, 0)


def test_the_discount_lowers_what_is_reported(batch):
    with FakeBatchApi() as api:
        full = batch(api, rows(20))
    with FakeBatchApi() as api:
        half = batch(api, [request(f"row {i}.", repeat=1) for i in range(20)], price=HALVED)
    assert half.usd == pytest.approx(full.usd / 2)


def test_the_summary_tells_what_batches_cost_with_their_discount_and_other_replies_without(batch, ask, store):
    def summed():
        (group,) = admin.summary(store)
        return group["usd"]

    with FakeBatchApi() as api:
        batched = batch(api, rows(20), price=HALVED).usd
    assert summed() == pytest.approx(batched)
    with FakeProvider() as chat:
        asked = ask(chat, rows(30), price=HALVED).usd
    assert summed() == pytest.approx(batched + asked)
    assert "no price known" not in "\n".join(admin.lines(admin.summary(store)))


def test_the_price_is_known_while_the_first_batch_is_out(batch, store):
    api = FakeBatchApi(refuse=lambda method, path: 500 if path.startswith("/v1/batches/") else None)
    with api, pytest.raises(ProviderDown):
        batch(api, rows(5), price=HALVED)
    (group,) = admin.summary(store)
    assert (group["in_flight"], price_of(group["price"])) == (5, HALVED)


def test_the_cap_is_never_passed_and_the_run_resumes(batch):
    bound = (6 + 4 + 200 + 16) / 1e6
    with FakeBatchApi() as api:
        with pytest.raises(CapReached) as stopped:
            batch(api, rows(40), max_usd=2 * bound)
        assert 10 <= api.asked() < 40
        assert stopped.value.report.usd < 2 * bound
        assert batch(api, rows(40), max_usd=1).failed == 0
        assert api.asked() == 40


def test_what_was_perhaps_paid_counts_at_its_bound_with_a_cap_and_without(batch, store):
    """A line that names no row may be the answer to the one that is missing, and half an answer was generated whole."""
    bound = (6 + 4 + 200 + 16) / 1e6

    def unnamed(out):
        return [b"{broken", *out[1:]]

    def broken(out):
        return [json.dumps(out[0]).encode()[:90], *out[1:]]

    with FakeBatchApi() as api:
        batch(api, rows(60)[55:])  # the canary
    for first, odd, cap in ((0, unnamed, None), (20, broken, None), (40, unnamed, 1.0)):
        with FakeBatchApi([complete(odd), complete()]) as api:
            report = batch(api, rows(first + 15)[first:], max_usd=cap)
        assert report.unknown_usd == pytest.approx(bound, abs=2e-6)  # numbers of two digits are one byte more
        assert (report.kept, report.maybe_paid) == (15, odd is unnamed)
    told = store.query("SELECT state, count(*) FROM attempt WHERE state<>'ok' GROUP BY state ORDER BY state", [])
    assert [tuple(row) for row in told] == [("invalid", 1), ("unknown", 2)]


def test_results_that_find_the_disk_full_are_kept_whole_in_the_room_that_was_set_aside(batch, store, monkeypatch):
    """The file of the store may not grow, until the reserve is freed."""
    fetch, free, freed = result_files.fetch, Reserve.free, []

    async def then_full(*given, **named):
        found = await fetch(*given, **named)
        ((pages,),) = store._write.execute("PRAGMA page_count")
        store._write.execute(f"PRAGMA max_page_count={pages + 3}")
        return found

    def lifted(reserve):
        if not freed:
            store._write.execute("PRAGMA max_page_count=1000000")
        freed.append(True)
        return free(reserve)

    with FakeBatchApi() as api:
        batch(api, rows(5))
        monkeypatch.setattr(result_files, "fetch", then_full)
        monkeypatch.setattr(Reserve, "free", lifted)
        report = batch(api, rows(80))
        assert api.asked() == 80
    assert freed
    assert (report.kept, report.troubles, report.failed) == (75, {}, 0)
    keep_all(store, rows(80))


# Crashes


class Killed(BaseException):
    """Ends the run like SIGKILL would: nothing is cleaned up in the store."""


def dies_at(step: int, patch: pytest.MonkeyPatch) -> None:
    """Let the run die at the given moment: each call of the API has one before it and one after it."""
    left = step

    def counted(function):
        async def wrapped(*args, **named):
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            result = await function(*args, **named)
            left -= 1
            if left == 0:
                raise Killed
            return result

        return wrapped

    for name in ("upload", "create", "status", "download", "find"):
        patch.setattr(together_batch.TogetherBatch, name, counted(getattr(together_batch.TogetherBatch, name)))


def die_submitting(batch, api, step: int) -> None:
    """A run of five requests that ends at a step: 3 is before the submission, 4 after it and before its id is written down."""
    with pytest.MonkeyPatch.context() as patch:
        dies_at(step, patch)
        with pytest.raises(Killed):
            batch(api, rows(5))


def grow_old(store: ResponseStore) -> None:
    store.transaction([("UPDATE batch SET created_at=created_at-?", [batch_sender.SURELY_LISTED_S])])


def crash_and_finish(step, batch, store, monkeypatch) -> bool:
    """Whether the run died; in any case the next one finishes it, and every request was submitted once."""
    requests = [request(f"row {i}.", repeat=step) for i in range(12)]
    store.remember("canary:together:cheap-model:3", False)
    died = False
    with FakeBatchApi() as api:
        with monkeypatch.context() as patch:
            dies_at(step, patch)
            try:
                batch(api, requests)
            except Killed:
                died = True
        try:
            report = batch(api, requests)
        except ProviderDown:  # it died before the submission, which the next run cannot know
            assert api.asked() < 12
            grow_old(store)
            report = batch(api, requests)
        assert api.asked() == 12
    assert len(list(store.replies(r.request_id for r in requests))) == 12
    assert report.failed == 0
    return died


def test_a_crash_between_submission_and_the_note_of_it_does_not_submit_again(batch, store, monkeypatch):
    assert crash_and_finish(4, batch, store, monkeypatch)


@pytest.mark.slow
def test_a_crash_before_or_after_any_call_never_submits_a_request_twice(batch, store, monkeypatch):
    steps = 1
    while crash_and_finish(steps, batch, store, monkeypatch):
        steps += 1
    assert steps > 12


def test_a_submitted_batch_that_is_listed_late_is_waited_for_and_not_submitted_again(batch):
    with FakeBatchApi(unlisted=2) as api:
        die_submitting(batch, api, 4)
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 5


def test_a_batch_that_is_not_listed_stops_the_run_resumably_and_is_fetched_by_a_later_one(batch, store):
    with FakeBatchApi(unlisted=3) as api:
        die_submitting(batch, api, 4)
        with pytest.raises(ProviderDown, match=r"file-0.*not submitted again.*Run the same command again") as stopped:
            batch(api, rows(5))
        assert stopped.value.exit_code == 3
        assert store.in_batches("mail", ["cheap"]) == 5
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 5


def test_a_file_of_which_no_batch_is_listed_after_an_hour_is_submitted_anew(batch, store):
    with FakeBatchApi() as api:
        die_submitting(batch, api, 3)
        with pytest.raises(ProviderDown):
            batch(api, rows(5))
        assert api.asked() == 0
        grow_old(store)
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 5
        assert api.calls.count(("GET", "/v1/batches")) == 4, "three looks while it was young, and one"


@pytest.mark.parametrize(("status", "raised"), [(402, CreditExhausted), (403, AccessError), (429, ProviderDown)])
def test_a_refused_submission_made_no_batch_and_none_is_looked_for(batch, status, raised):
    with FakeBatchApi(refuse=lambda *call: status if call == ("POST", "/v1/batches") else None) as api:
        with pytest.raises(raised, match=str(status)) as stopped:
            batch(api, rows(5))
        assert ("add credit" in str(stopped.value)) == (status == 402)
        api.refuse = lambda *call: None
        assert batch(api, rows(5)).kept == 5
        assert ("GET", "/v1/batches") not in api.calls


def test_a_submission_that_ends_in_a_server_error_may_have_made_a_batch(batch):
    with FakeBatchApi(refuse=lambda *call: 500 if call == ("POST", "/v1/batches") else None) as api:
        with pytest.raises(ProviderDown, match="500"):
            batch(api, rows(5))
        api.refuse = lambda *call: None
        with pytest.raises(ProviderDown, match="may have been submitted"):
            batch(api, rows(5))


def test_a_page_of_batches_is_not_taken_for_all_of_them(batch):
    with FakeBatchApi(listed=lambda jobs: {"data": [], "has_more": True}) as api:
        die_submitting(batch, api, 4)
        with pytest.raises(ProviderDown, match="unknown form"):
            batch(api, rows(5))
        assert api.asked() == 5


def test_requests_in_a_batch_are_not_sent_again_by_the_chat_api(batch, ask, store):
    with FakeBatchApi(polls=10**9) as api:
        api.refuse = lambda method, path: 500 if (method, path.rpartition("/")[0]) == ("GET", "/v1/batches") else None
        with pytest.raises(ProviderDown, match="goes on"):
            batch(api, rows(5))
        assert store.in_batches("mail", ["cheap"]) == 5  # so that the command refuses another way of asking
        api.refuse, api.polls = lambda method, path: None, 0
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 5
    with FakeProvider() as chat:
        assert ask(chat, rows(5)).from_store == 5


def test_an_estimate_counts_what_lies_in_an_open_batch_apart_and_at_no_cost(batch, ask, store):
    def estimated(task="mail"):
        price = PRICE
        return estimates.estimate({"cheap": rows(8)}, {"cheap": price}, store, task=task, rows=8, paid=True)

    with FakeProvider() as chat:
        ask(chat, rows(2))
    with FakeBatchApi(refuse=lambda method, path: 500 if path.startswith("/v1/batches/") else None) as api:
        with pytest.raises(ProviderDown):
            batch(api, rows(8))
        report, of_others = estimated(), estimated("another task")
        api.refuse = lambda *call: None
        batch(api, rows(8))
    cheap = report["roles"]["cheap"]
    assert (cheap["from_store"], cheap["in_batch"], cheap["to_send"]) == (2, 5, 1)
    assert report["saved"]["in_batch"] == 5
    assert report["usd"] < of_others["usd"]
    assert sum("5 in a batch that is not fetched yet" in line for line in estimates.estimate_lines(report)) == 2
    assert (of_others["saved"]["in_batch"], of_others["to_send"]) == (0, 6)
    assert estimated()["saved"] == {"splits": 0, "identical": 0, "from_store": 8, "in_batch": 0}


def test_an_estimate_counts_a_file_that_was_never_submitted_as_to_be_sent(batch, store):
    api = FakeBatchApi(refuse=lambda method, path: 500 if path == "/v1/files" else None)
    with api, pytest.raises(ProviderDown):
        batch(api, rows(5))
    assert (store.in_batches("mail", ["cheap"]), submitted(store, "mail")) == (5, set())


@pytest.mark.parametrize(
    ("status", "raised"), [(401, AccessError), (403, AccessError), (500, ProviderDown), (429, ProviderDown)]
)
def test_a_service_that_refuses_says_so_and_nothing_is_left_behind(batch, store, status, raised):
    with FakeBatchApi(refuse=lambda method, path: status if path == "/v1/files" else None) as api:
        with pytest.raises(raised, match=str(status)):
            batch(api, rows(5))
        api.refuse = lambda method, path: None
        assert batch(api, rows(5)).kept == 5
        assert api.asked() == 5
    assert admin.summary(store)[0]["in_flight"] == 0


def test_the_key_is_in_no_result(batch, store):
    def echo(out):
        out[0]["response"]["body"]["choices"][0]["message"]["content"] = f"Bearer {KEY}"
        return out

    with FakeBatchApi([complete(echo)]) as api:
        batch(api, rows(5))
    assert all(KEY.encode() not in reply.body for reply in store.replies(r.request_id for r in rows(5)))


def test_limits_are_those_of_the_service():
    assert (batch_sender.MOST_REQUESTS, batch_sender.MOST_BYTES, batch_sender.CANARY) == (50_000, 100_000_000, 5)
    assert len(request("x").request_id) <= 64
    assert 30 <= batch_sender.POLL_S <= 60
    assert 45 <= sum(batch_sender.LOOKS_S) <= 90
