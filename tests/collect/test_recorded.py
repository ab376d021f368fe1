"""The recorded provider: files of replies that others wrote, read with the care that others' files need."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from asking import PRICE, request
from fake_provider import completion

from pipeline.collect.providers.recorded import Recorded
from pipeline.collect.providers.recorded_line import loaded, parsed, row_id
from pipeline.collect.sending.sender import send
from pipeline.collect.store.response_store import ResponseStore
from pipeline.errors import DataError

pytest_plugins = ("asking_fixtures",)


def line(example_id: str, body: object | None = None, status: int = 200) -> dict:
    body = completion({"model": "m", "messages": [{"content": example_id}], "logprobs": 1}) if body is None else body
    return {"custom_id": example_id, "response": {"status_code": status, "body": body}}


@pytest.fixture
def file(tmp_path):
    def write(*lines) -> Path:
        path = tmp_path / "cheap.jsonl"
        path.write_bytes(b"\n".join(x if isinstance(x, bytes) else json.dumps(x).encode() for x in lines))
        return path

    return write


def ask(provider: Recorded, store: ResponseStore, ids: list[str], **options):
    requests = [request(i, service=provider.service) for i in ids]
    return requests, send(requests, provider, store, task="t", progress=False, price=PRICE, **options)


def test_every_row_gets_its_recorded_reply_priced_but_not_paid(file, store):
    ids = [f"r{i}" for i in range(300)]
    requests, report = ask(Recorded(file(*map(line, reversed(ids)))), store, ids)
    assert (report.kept, report.maybe_paid, report.unknown_usd) == (300, 0, 0)
    assert report.usd == pytest.approx(sum(10 + len(i) // 4 + 2 for i in ids) / 1e6)
    for reply, i in zip(store.replies(r.request_id for r in requests), ids, strict=True):
        assert json.loads(reply.body) == line(i)["response"]["body"]
        assert reply.seconds is None


def test_a_cap_does_not_stop_what_costs_nothing(file, store):
    assert ask(Recorded(file(*map(line, "abc"))), store, list("abc"), max_usd=1e-9)[1].kept == 3


def test_the_service_is_named_after_the_files_content(file):
    path = file(line("a"))
    assert Recorded(path).service == "recorded/" + hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    first = Recorded(path).service
    assert Recorded(file(line("b"))).service != first


def test_rows_that_the_file_lacks_have_failed_and_ids_that_nobody_wants_are_counted(file, store):
    provider = Recorded(file(line("a"), line("extra"), line("b")))
    assert provider.missing(["a", "b", "c"]) == ["c"]
    assert provider.unknown(["a", "b", "c"]) == ["extra"]
    _, report = ask(provider, store, ["a", "b", "c"])
    assert (report.kept, report.failed_by_reason) == (2, {"not_recorded": 1})


def test_many_missing_rows_do_not_stop_the_run(file, store):
    _, report = ask(Recorded(file(line("a"))), store, ["a", *(f"m{i}" for i in range(40))])
    assert (report.kept, report.failed_by_reason) == (1, {"not_recorded": 40})


def test_a_reply_goes_before_an_error_and_equal_ones_count_once(file, store):
    error = {"custom_id": "a", "response": None, "error": {"code": "500", "message": "server error"}}
    anew = line("a")
    anew["response"]["body"] = {**anew["response"]["body"], "id": "other", "created": 99}
    provider = Recorded(file(error, line("a"), anew, error, b"", line("b")))
    assert (provider.duplicates, provider.recovered) == (["a"] * 3, ["a"] * 2)
    assert provider.notes() == [
        "cheap.jsonl: 3 lines repeat an id (such as 'a'): 2 where a reply counts beside an error, the rest alike"
    ]
    requests, report = ask(provider, store, ["a", "b"])
    assert json.loads(store.get(requests[0].request_id).body) == line("a")["response"]["body"]
    assert report.kept == 2


def test_two_different_replies_of_one_row_are_refused(file):
    other = line("a", {"choices": [{"message": {"content": "second"}}]})
    with pytest.raises(DataError, match=r"cheap\.jsonl:2: another reply of 'a' than on line 1"):
        Recorded(file(line("a"), other))


def test_ids_that_match_no_row_are_shown_in_both_spellings(file):
    provider = Recorded(file(line("r-1"), line("r-2")))
    provider.require_match(["r-2", "x"], "cheap")
    with pytest.raises(
        DataError, match=r"the file has 'r-1', 'r-2', the dataset has '1', '2'.*dataset\.id.*cheap\.replies"
    ):
        provider.require_match(["1", "2"], "cheap")


def test_recorded_errors_are_failures_of_their_rows_and_are_not_waited_for(file, store):
    provider = Recorded(
        file(
            line("a"),
            line("b", {"error": {"message": "maximum context length"}}, 400),
            {"custom_id": "c", "error": {"message": "x", "code": 500}},
        )
    )
    _, report = ask(provider, store, ["a", "b", "c"])
    assert (report.kept, report.failed_by_reason) == (1, {"too_long": 1, "http_500": 1})
    assert report.attempts == 3


@pytest.mark.parametrize(
    "other",
    [
        {"custom_id": "x", "response": None, "error": "out of memory"},
        {"custom_id": "x", "response": {"status_code": 0, "body": {}}},
        {"custom_id": "x"},
        {"custom_id": "x", "response": {"status_code": 200}},
        {"custom_id": "x", "response": "busy"},
        {"custom_id": "x", "response": {"status_code": "429", "body": "slow down"}},
        {"custom_id": "x", "error": ["a"], "response": []},
    ],
)
def test_a_line_of_another_shape_is_a_failed_row_and_the_rest_is_used(file, store, other):
    _, report = ask(Recorded(file(line("a"), other, line("b"))), store, ["a", "x", "b"])
    assert report.kept == 2
    assert sum(report.failed_by_reason.values()) == 1


@pytest.mark.parametrize("bad", [b"{broken", b'{"response": {"body": {}}}', b"[]", b"\xff\xfe", b"7"])
def test_a_line_that_names_no_row_is_counted_and_said(file, bad):
    provider = Recorded(file(line("a"), line("b"), bad))
    assert provider.notes() == ["cheap.jsonl: 1 line names no row (the first is line 3)"]
    with pytest.raises(DataError, match=r"cheap\.jsonl: holds no replies \(line 1: "):
        Recorded(file(bad))


def test_an_id_that_is_a_number_is_its_text(file, store):
    assert ask(Recorded(file({**line("7"), "custom_id": 7})), store, ["7"])[1].kept == 1


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl.*replies"):
        Recorded(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no replies"):
        Recorded(tmp_path / "empty.jsonl")


@pytest.mark.slow
def test_real_recorded_files_are_read_whole(real_data, store):
    folder = real_data / "recorded" / "mmlu_gpt4o"
    ids = [json.loads(x)["id"] for x in (folder / "examples.jsonl").read_text().strip().split("\n")]
    for role in ("cheap", "strong"):
        provider = Recorded(folder / f"{role}.jsonl")
        assert provider.missing(ids) == provider.unknown(ids) == provider.duplicates == []
        requests, report = ask(provider, store, ids)
        assert report.kept == len(ids) == 1816
        reference = {
            v["custom_id"]: v["response"]["body"]
            for v in map(json.loads, (folder / f"{role}.jsonl").read_text().strip().split("\n"))
        }
        assert all(
            json.loads(reply.body) == reference[reply.example_id]
            for reply in store.replies(r.request_id for r in requests)
        )


@pytest.mark.parametrize(
    "text",
    [
        '{"a": -0.0, "b": 1e999, "c": -1e999, "d": NaN, "e": Infinity, "f": 5e-324, "g": 2.2250738585072011e-308}',
        '{"a": 1, "a": 2}',
        '{"a": 123456789012345678901234567890, "b": 0.1e1, "c": 1E2, "d": -0}',
        '{"a": "\\ud800", "b": "\\u00e9\\ud83d\\ude00", "c": "\\u0000"}',
        '{"a": 9007199254740993.0, "b": 1.7976931348623157e308}',
    ],
)
def test_lines_are_read_as_the_standard_library_reads_them(text):
    mine, theirs = loaded(text.encode()), json.loads(text)
    assert repr(mine) == repr(theirs)


DEEP = '{"custom_id": "a", "response": ' + "[" * 99 + "%s" + "]" * 99 + "}"


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('{"custom_id": "a", "custom_id": "b"}', "b"),
        ('{"x": NaN, "custom_id": "a"}', "a"),
        ('{"custom_id": ""}', None),
        ('{"custom_id": "\\ud800", "response": "\\ud800"}', "\ud800"),
        ('{"custom_id": 12345678901234567890123}', "12345678901234567890123"),
        ('{"custom_id": true}', None),
        ('{"custom_id": 1.0}', None),
        ('{"custom_id": "a"} {}', None),
        ('{"custom_id": "a", "x": 01}', None),
        ('["custom_id"]', None),
        (DEEP % "", "a"),
        (DEEP % "[]", None),
        ('{"custom_id": "\u00e9\U0001f600"}', "\u00e9\U0001f600"),
    ],
)
def test_the_row_of_a_line_is_what_its_whole_value_says(text, row):
    data = text.encode()
    assert row_id(data)[0] == row == parsed(data)[0]
    assert row_id(data)[1] == parsed(data)[2]
    if row is not None:
        assert repr(loaded(data, known=True)) == repr(json.loads(text))


def test_logprobs_of_any_digits_keep_their_bits():
    rng = random.Random(5)
    for _ in range(3000):
        value = -rng.expovariate(1) * 10 ** rng.uniform(-12, 3)
        digits = rng.choice([repr(value), f"{value:.20g}", f"{value:.9f}", f"{value:.25e}"])
        assert loaded(b'{"x": %s}' % digits.encode())["x"].hex() == float(digits).hex()


def test_a_completion_without_its_envelope_is_a_reply(file, store):
    bare = {"custom_id": "x", "response": line("x")["response"]["body"]}
    assert ask(Recorded(file(line("a"), bare)), store, ["a", "x"])[1].kept == 2
