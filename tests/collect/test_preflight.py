"""Before money is spent: what an estimate says, what a doctor finds, and what is refused."""

from __future__ import annotations

import datetime as dt
import socket

import pytest
from asking import KEY, request, rows
from fake_provider import FakeProvider, Step, http, ok, raw

from cascade_threshold.pricing import Price
from pipeline.collect.preflight import doctor as preflight
from pipeline.collect.preflight import estimate as estimates
from pipeline.collect.preflight import probe
from pipeline.collect.providers import together
from pipeline.collect.providers.chat_api import ChatApi
from pipeline.collect.sending.spend_cap import Allowance
from pipeline.errors import AccessError, CapReached, CreditExhausted, ProviderDown, SpendingRefused, Stopped, UsageError

pytest_plugins = ("asking_fixtures",)
PRICE = Price(input=1.0, output=2.0, as_of=dt.date(2026, 11, 1), source="a list")
TODAY = dt.date(2026, 11, 23)
LONG = [
    {
        "index": 0,
        "finish_reason": "length",
        "message": {"role": "assistant", "content": "", "reasoning": "hmm"},
        "logprobs": None,
    }
]


@pytest.fixture
def doctor(store, monkeypatch):
    def run(api, **roles):
        monkeypatch.setenv("TOGETHER_API_KEY", KEY)
        monkeypatch.setenv("TOGETHER_BASE_URL", api if isinstance(api, str) else api.url)
        asked = roles or {"cheap": request("row 1."), "strong": request("row 1.", role="strong", top_logprobs=None)}
        return preflight.doctor(
            {role: one if isinstance(one, list) else [one] for role, one in asked.items()},
            dict.fromkeys(asked, PRICE),
            lambda role: together.from_environment(concurrency=1),
            store,
            task="mail",
            paid=True,
            today=TODAY,
        )

    return run


@pytest.fixture
def ready(store, monkeypatch):
    def run(api, *roles, max_usd=None, **rows):
        monkeypatch.setenv("TOGETHER_API_KEY", KEY)
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        first = {role: [request("row 1.", role=role, top_logprobs=3 if role == "cheap" else None)] for role in roles}
        asked, allowance = first | rows, Allowance(max_usd)
        records = preflight.ready(
            asked,
            dict.fromkeys(asked, PRICE),
            lambda role: together.from_environment(concurrency=1),
            store,
            task="mail",
            allowance=allowance,
        )
        return records, allowance.spent

    return run


def states(report):
    return {(c["name"], c["state"]) for c in report["checks"]}


def entries(*logprobs, alternatives=3):
    return {
        "content": [
            {
                "token": "spam",
                "bytes": None,
                "logprob": lp,
                "top_logprobs": [{"token": "x", "logprob": -1.0, "bytes": None}] * alternatives,
            }
            for lp in logprobs
        ]
    }


def answer(logprobs, content="spam") -> Step:
    return ok(
        choices=[
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content},
                "logprobs": logprobs,
            }
        ]
    )


# Doctor


def test_a_healthy_service_is_found_so_with_one_post_per_model_and_its_ways_remembered(doctor, store):
    with FakeProvider() as api:
        report = doctor(api)
        assert len(api.posts) == 2
        assert report["usd"] == pytest.approx(api.usd)
        host = f"127.0.0.1:{api.port}"
    assert report["ok"]
    cheap = report["models"]["cheap"]
    assert (cheap["form"], cheap["shape"], cheap["alternatives"], cheap["usage"], cheap["response_model"]) == (
        "integer",
        "content",
        3,
        True,
        "cheap-model",
    )
    assert probe.forms(store, host) == {"cheap-model": "integer"}
    assert preflight.lines(report)[-1] == "ready"


def test_the_probes_reply_serves_its_row(ask, doctor):
    with FakeProvider() as api:
        doctor(api, cheap=request("row 1."))
        assert ask(api, rows(5)).from_store == 1
        assert len(api.posts) == 5
        doctor(api, cheap=request("row 1."))
        assert len(api.posts) == 6


def test_a_model_that_wants_a_boolean_is_remembered_and_asked_so_from_then_on(doctor, store):
    with FakeProvider(
        lambda p: http(400, message="logprobs must be a boolean") if p.body["logprobs"] is not True else None
    ) as api:
        report = doctor(api, cheap=request("row 1."))
        assert len(api.posts) == 2
        assert probe.forms(store, f"127.0.0.1:{api.port}") == {"cheap-model": "boolean"}
    assert report["ok"]


@pytest.mark.parametrize(("wanted", "sent"), [(3, 3), (0, 1)])
def test_a_server_that_takes_the_integer_and_sends_no_logprobs_is_tried_in_the_other_form(doctor, wanted, sent):
    with FakeProvider(lambda p: None if p.body["logprobs"] is True else answer(None)) as api:
        report = doctor(api, cheap=request("row 1.", top_logprobs=wanted))
        assert [p.body["logprobs"] for p in api.posts] == [sent, True]
    assert (report["ok"], report["models"]["cheap"]["form"]) == (True, "boolean")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (answer(None), "no token came with a usable logprob"),
        (answer(entries(0.5)), "no token came"),
        (answer(entries(*[0.0] * 6)), "exactly 0"),
        (ok(choices=LONG), "reasoning"),
        (answer(entries(-0.1), content=""), "no answer"),
    ],
    ids=["none", "positive", "all zero", "all reasoning", "empty"],
)
def test_a_cheap_model_without_usable_logprobs_is_refused_with_what_to_do(doctor, step, says):
    with FakeProvider(lambda p: step) as api:
        report = doctor(api, cheap=request("row 1."))
        assert len(api.posts) <= 4
    assert not report["ok"]
    with pytest.raises(UsageError, match=says):
        preflight.require(report)
    assert any("->" in line for line in preflight.lines(report))


def test_a_strong_model_needs_no_logprobs(doctor):
    with FakeProvider(lambda p: answer(None)) as api:
        assert doctor(api, strong=request("row 1.", role="strong", top_logprobs=None))["ok"]


def test_fewer_alternatives_than_asked_for_another_model_and_missing_usage_are_warnings(doctor):
    with FakeProvider(
        lambda p: ok(choices=answer(entries(-0.1, alternatives=1)).body["choices"], model="other", usage=None)
    ) as api:
        report = doctor(api, cheap=request("row 1."))
    assert report["ok"]
    warnings = " ".join(c["text"] for c in report["checks"] if c["state"] == "warn")
    for part in ("1 alternatives", "answered by 'other'", "how many tokens"):
        assert part in warnings


@pytest.mark.parametrize(("status", "error"), [(401, AccessError), (402, CreditExhausted), (404, AccessError)])
def test_a_refused_key_or_model_is_a_failed_check_after_one_post_each(doctor, status, error):
    with FakeProvider(lambda p: http(status)) as api:
        report = doctor(api, cheap=request("row 1."))
        assert len(api.posts) == 1
    assert not report["ok"]
    assert ("cheap model", "fail") in states(report)
    del error


def test_a_service_that_is_not_there_fails_fast(doctor):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = doctor(f"http://127.0.0.1:{unused.getsockname()[1]}", cheap=request("row 1."))
    assert not report["ok"]
    assert "TOGETHER_BASE_URL" in str(report["checks"])


def test_a_web_page_in_place_of_an_api_is_a_failed_check(doctor):
    with FakeProvider(lambda p: raw(b"<html>hello</html>", content_type="text/html")) as api:
        report = doctor(api, cheap=request("row 1."))
        assert len(api.posts) == 3
    assert "web page" in str(report["checks"])


def test_a_missing_key_is_one_failed_check_and_no_post(store, monkeypatch):
    monkeypatch.setenv("TOGETHER_BASE_URL", "https://api.together.example")
    asked = {"cheap": [request("x")], "strong": [request("x", role="strong")]}
    report = preflight.doctor(
        asked, {}, lambda role: together.from_environment(concurrency=1), store, task="mail", paid=True
    )
    assert [c["name"] for c in report["checks"] if c["state"] == "fail"] == ["cheap model"]
    with pytest.raises(UsageError, match="TOGETHER_API_KEY"):
        preflight.require(report)


@pytest.mark.parametrize(
    ("as_of", "state"), [(TODAY, "ok"), (TODAY - dt.timedelta(200), "warn"), (TODAY + dt.timedelta(2), "warn")]
)
def test_the_age_of_prices_is_looked_at(store, as_of, state):
    price = Price(input=1.0, output=2.0, as_of=as_of, source="a list")
    report = preflight.doctor({}, {"cheap": price}, lambda role: None, store, task="mail", paid=True, today=TODAY)
    assert ("price", state) in states(report)


def test_a_price_that_the_services_list_contradicts_is_a_warning(doctor, monkeypatch):
    async def listed(self, model):
        return (1.0, 2.0, 0.2) if model == "strong-model" else (1.0, 2.5, None)

    monkeypatch.setattr(ChatApi, "list_price", listed)
    with FakeProvider() as api:
        report = doctor(api)
    warnings = [c["text"] for c in report["checks"] if (c["name"], c["state"]) == ("price", "warn")]
    assert warnings == [
        "cheap: the config says $1 / $2 per million tokens, the service's list $1 / $2.5 per million tokens",
        "strong: the service lists $0.2 per million cached tokens of the prompt, and the config has no such price",
    ]


def test_a_disk_too_small_is_a_failed_check(store):
    report = preflight.doctor({}, {}, lambda role: None, store, task="mail", paid=True, to_send=10**12)
    assert ("disk", "fail") in states(report)


def test_a_run_probes_each_model_once_and_remembers(ready):
    with FakeProvider() as api:
        for _ in range(3):
            ready(api, "cheap")
        assert len(api.posts) == 1
        ready(api, cheap=[request("row 1.", top_logprobs=5)])
        assert len(api.posts) == 2


def test_a_run_on_a_cheap_model_without_logprobs_ends_before_it_begins(ready):
    with FakeProvider(lambda p: answer(None)) as api, pytest.raises(UsageError, match="choose another cheap model"):
        ready(api, "cheap")


# Estimate


def test_an_estimate_sends_nothing_and_counts_what_is_saved(ask, store):
    with FakeProvider() as api:
        ask(api, rows(10))
        wanted = {
            "cheap": [*rows(30), request("row 3.", example_id="twin")],
            "strong": [request(f"row {i}.", role="strong", top_logprobs=None) for i in range(20)],
        }
        report = estimates.estimate(wanted, dict.fromkeys(wanted, PRICE), store, task="mail", rows=31, paid=True)
        assert len(api.posts) == 10
    cheap = report["roles"]["cheap"]
    assert (cheap["rows"], cheap["requests"], cheap["identical"], cheap["from_store"], cheap["to_send"]) == (
        31,
        30,
        1,
        10,
        20,
    )
    assert report["saved"] == {"splits": 11, "identical": 1, "from_store": 10, "in_batch": 0}
    assert report["to_send"] == 40
    assert 0 < report["usd"] < report["usd_at_most"]
    assert any("11 answers that no split needs" in line for line in estimates.estimate_lines(report))


def test_the_most_that_a_run_can_cost_is_more_than_it_does(ask, store):
    wanted = rows(40)
    report = estimates.estimate({"cheap": wanted}, {"cheap": PRICE}, store, task="mail", rows=40, paid=True)
    with FakeProvider() as api:
        assert ask(api, wanted).usd < report["usd_at_most"]
    again = estimates.estimate({"cheap": wanted}, {"cheap": PRICE}, store, task="mail", rows=40, paid=True)
    assert (again["to_send"], again["usd"], again["usd_at_most"]) == (0, 0, 0)


def test_the_length_of_kept_replies_makes_the_estimate_better(ask, store):
    before = estimates.estimate({"cheap": rows(60)}, {"cheap": PRICE}, store, task="mail", rows=60, paid=True)["roles"][
        "cheap"
    ]
    with FakeProvider() as api:
        ask(api, rows(30))
    after = estimates.estimate({"cheap": rows(60)}, {"cheap": PRICE}, store, task="mail", rows=60, paid=True)["roles"][
        "cheap"
    ]
    assert (before["output_tokens"], after["output_tokens"]) == (60 * 8, 30)
    assert "30 kept replies" in after["basis"]


# Confirmation


@pytest.mark.parametrize(
    ("usd", "options", "passes"),
    [
        (4.9, {}, True),
        (5.1, {}, False),
        (5.1, {"yes": True}, True),
        (500, {"max_usd": 10}, True),
        (5.1, {"terminal": True, "reply": "y"}, True),
        (5.1, {"terminal": True, "reply": ""}, False),
        (5.1, {"paid": False}, True),
    ],
)
def test_more_than_five_dollars_need_a_yes(usd, options, passes):
    report = {"paid": options.get("paid", True), "usd": usd, "usd_at_most": 2 * usd}
    arguments = {
        "max_usd": options.get("max_usd"),
        "yes": options.get("yes", False),
        "terminal": options.get("terminal", False),
    }
    if passes:
        estimates.confirm(report, ask=lambda text: options["reply"], **arguments)
    else:
        with pytest.raises(SpendingRefused):
            estimates.confirm(report, ask=lambda text: options["reply"], **arguments)


def test_a_service_that_does_not_answer_is_no_fault_of_the_config(store, monkeypatch):
    monkeypatch.setattr(probe, "DEADLINE_S", 0.1)
    monkeypatch.setenv("TOGETHER_API_KEY", KEY)
    with FakeProvider(lambda p: Step("hang", seconds=5)) as api:
        monkeypatch.setenv("TOGETHER_BASE_URL", api.url)
        with pytest.raises(ProviderDown, match="timeout"):
            probe.probe([request("x")], together.from_environment(concurrency=1), store, task="mail")


# The start of a paid run


def test_a_model_found_useless_is_refused_again_without_asking_and_doctor_asks(ready, doctor, store):
    with FakeProvider(lambda post: answer(None)) as api:
        for _ in range(3):
            with pytest.raises(UsageError, match=r"no token came with a usable logprob.*doctor"):
                ready(api, "cheap")
        asked = len(api.posts)
        assert asked == 2, "one in each request form, in the first run alone"
    with FakeProvider() as api:
        assert doctor(api, cheap=request("row 1."))["ok"]
        assert len(api.posts) == 1
        assert ready(api, "cheap")[0]["cheap"]["usable"]


def first_rows(store, count=600):
    return probe.candidates(rows(count), store)


FILTERED = [{"index": 0, "finish_reason": "content_filter", "message": {"content": None}, "logprobs": None}]


@pytest.mark.parametrize(
    "poison",
    [http(400, message="maximum context length"), ok(choices=FILTERED), ok(choices=LONG)],
    ids=["refused", "filtered", "cut"],
)
def test_a_first_row_that_gets_no_answer_says_nothing_about_the_model(ready, doctor, store, poison):
    with FakeProvider(lambda post: poison if post.text == "row 0." else ok()) as api:
        records, spent = ready(api, cheap=first_rows(store), max_usd=1)
        assert records["cheap"]["usable"]
        assert [post.text for post in api.posts] == ["row 0.", "row 1."]
        assert spent >= api.usd
        ready(api, cheap=first_rows(store))
        assert doctor(api, cheap=first_rows(store))["ok"]
        assert len(api.posts) <= 4, "doctor asks again, a run does not"


ODD = {"row 0.", "row 1.", "row 2."}


def test_a_model_is_tried_with_rows_that_it_has_not_refused(ready, store):
    with FakeProvider(lambda post: http(422, message="odd row") if post.text in ODD else ok()) as api:
        with pytest.raises(UsageError, match="odd row"):
            ready(api, cheap=first_rows(store))
        assert {post.text for post in api.posts} == ODD
        assert ready(api, cheap=first_rows(store))[0]["cheap"]["usable"]
        assert len(api.posts) == 4, "no refused row is asked again"


def test_a_cap_with_room_for_one_row_tries_no_other(ready, store):
    with FakeProvider(lambda post: http(422, message="odd row")) as api:
        with pytest.raises(UsageError, match="odd row"):
            ready(api, cheap=first_rows(store), max_usd=0.0006)
        assert len(api.posts) == 1


def test_a_busy_service_is_waited_for_before_the_first_row_too(ready):
    steps = [http(429, {"Retry-After": "0.01"}, message="slow down")] * 5
    with FakeProvider({"row 1.": steps}) as api:
        assert ready(api, "cheap")[0]["cheap"]["usable"]
        assert len(api.posts) == 6
    with FakeProvider(lambda post: http(429, {"Retry-After": "400"})) as api:
        with pytest.raises(ProviderDown, match="slower pace"):
            ready(api, "strong")
        assert len(api.posts) == 1


@pytest.mark.parametrize(
    ("step", "code", "posts"),
    [(http(402, message="credit"), 3, 1), (http(401, message="no"), 2, 1), (http(404, message="no model"), 2, 2)],
    ids=["402", "401", "404"],
)
def test_doctor_ends_with_the_code_that_the_run_would_end_with(doctor, step, code, posts):
    with FakeProvider(lambda post: step) as api:
        report = doctor(api)
        assert len(api.posts) == posts
    with pytest.raises((UsageError, Stopped)) as refused:
        preflight.require(report)
    assert refused.value.exit_code == code


def test_the_first_calls_count_against_the_cap_and_are_not_made_where_it_leaves_no_room(ready):
    with FakeProvider() as api:
        with pytest.raises(CapReached, match=r"\$0\.0000 of \$0\.0001 spent, and the first request to cheap-model"):
            ready(api, "cheap", "strong", max_usd=0.0001)
        assert not api.posts
        _, spent = ready(api, "cheap", "strong", max_usd=1)
        assert spent == pytest.approx(api.usd)
        _, spent = ready(api, "cheap", "strong", max_usd=1)
        assert (spent, len(api.posts)) == (0.0, 2), "what is remembered costs nothing"
