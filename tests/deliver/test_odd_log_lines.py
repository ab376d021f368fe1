"""Log lines as no program should write them: times that no clock shows, numbers beyond every float, lines without an end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deliver.policies import document, one_token, write
from foreign_input import documented

from cascade_threshold.policy import Policy
from pipeline.deliver.monitoring.log_record import records

LINE: dict[str, Any] = {
    **Policy(document()).decide(one_token(0.97)).to_dict(),
    "label": "spam",
    "time": "2026-11-22T10:00:00Z",
}
N = 60


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write(tmp_path_factory.mktemp("policy") / "policy.json", document()))


def monitored(policy: str, log: str) -> dict[str, Any]:
    _, out, _ = documented(["monitor", "--policy", policy, "--log", "-", "--json"], log.encode())
    return dict(json.loads(out))


TIMES = [
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "0001-01-01",
    "2026-02-30T00:00:00Z",
    "2024-02-29T24:00:00Z",
    "1969-12-31",
    "nan",
    "1e400",
    "\u0662\u0660\u0662\u0666-01-01",
    -5,
    1e308,
    10**299,
    True,
    [],
    {},
]


@pytest.mark.parametrize("time", TIMES, ids=range(len(TIMES)))
def test_row_74_a_time_that_no_clock_shows_is_none_and_the_line_counts(policy: str, time: Any) -> None:
    odd = json.dumps({**LINE, "time": time})
    for log in ([odd] * N, [json.dumps(LINE)] * N + [odd]):
        lines = [line.replace('"action"', f'"id": "r{i}", "action"', 1) for i, line in enumerate(log)]
        assert monitored(policy, "\n".join(lines))["lines"]["judged"] == len(lines)


@pytest.mark.parametrize("inner", ["9" * 400, "9" * 5000, "[" * 900 + "]" * 900, '{"a":' * 450 + "1" + "}" * 450])
def test_row_74_an_object_behind_text_is_held_to_the_limits_of_json(policy: str, inner: str) -> None:
    for name in ("time", "confidence", "x"):
        line = f'INFO {{"action": "accept", "label": "spam", "id": "x", "{name}": {inner}}}'
        found = monitored(policy, json.dumps(LINE) + "\n" + line)
        assert found["lines"]["read"] == 2
        assert found["lines"]["judged"] == 1


@pytest.mark.parametrize("unit", ["a", "a.", "-", "é", "{", "'", '"', "\\", "{'", "action=", '{\\"', "[", 'a="'])
def test_row_74_a_line_of_a_million_characters_is_read_once_through(unit: str) -> None:
    """A search that begins anew at each of them would take an hour."""
    (*_, last) = records([unit * (1_000_000 // len(unit))])
    assert last.fields is None or "action" in last.fields


def test_row_74_a_torn_line_of_a_driver_without_line_ends_does_not_swallow_what_follows(policy: str) -> None:
    wrapped = [
        json.dumps({"log": text, "stream": "stdout"})
        for text in ('{"action": "acc', *["a program speaks"] * 20_000, json.dumps(LINE))
    ]
    assert monitored(policy, "\n".join(wrapped))["lines"]["judged"] == 1


def test_row_74_a_line_in_pythons_notation_with_odd_escapes_warns_nobody(policy: str) -> None:
    line = "{'action': 'accept', 'confidence': 0.97, 'label': 'spam', 'answer': 'spam', 'path': 'C:\\d'}"
    code, out, err = documented(["monitor", "--policy", policy, "--log", "-", "--json"], line.encode())
    assert (code, json.loads(out)["lines"]["judged"]) == (0, 1)
    assert "escape" not in err
