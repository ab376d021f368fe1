"""The recorded provider: files of replies that others wrote, read with the care that others' files need."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from asking import PRICE, request
from fake_provider import completion

from pipeline.collect.providers.recorded import Recorded
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


def test_the_first_of_two_lines_with_one_id_counts_and_the_other_is_named(file, store):
    other = line("a", {"choices": [{"message": {"content": "second"}}]})
    provider = Recorded(file(line("a"), other, b"", line("b")))
    assert provider.duplicates == ["a"]
    requests, _ = ask(provider, store, ["a", "b"])
    assert json.loads(store.get(requests[0].request_id).body) == line("a")["response"]["body"]


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
    ("bad", "says"),
    [(b"{broken", "no JSON"), (b'{"response": {"body": {}}}', "custom_id"), (b'{"custom_id": 7, "response": {"body": {}}}', "custom_id"),
     (b'{"custom_id": "x"}', "response"), (b'{"custom_id": "x", "response": {"status_code": 200}}', "body"), (b"[]", "custom_id"), (b"\xff\xfe", "no JSON")],
)  # fmt: skip
def test_a_bad_line_is_named_with_file_and_number(file, bad, says):
    with pytest.raises(DataError, match=rf"cheap\.jsonl:3: .*{says}"):
        Recorded(file(line("a"), line("b"), bad))


def test_a_missing_or_empty_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl.*replies"):
        Recorded(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no replies"):
        Recorded(tmp_path / "empty.jsonl")


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
