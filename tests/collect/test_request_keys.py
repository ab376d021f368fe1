"""The keys of many rows are those of their requests, each rendered and hashed by itself."""

from pathlib import Path

import pytest

from pipeline.collect.request import request_for
from pipeline.collect.request_keys import RequestKeys
from pipeline.config import yaml_file

PLAIN = 'prompt: {system: "Answer \\"one\\" label.", user: "{text} of {other name:json}"}'
TURNS = """prompt: {messages: [{role: system, content: "{note}"}, {role: user, content: "{{é}}"}, {role: assistant, content: "a"},
  {role: user, content: "{text}"}]}"""
ROWS = [
    {"text": "plain", "other name": "x", "note": ""},
    {"text": 'quotes " and \\ and \n\t\x00\x7f', "other name": '"', "note": "é\u2028"},
    {"text": "{braces} \ud800 \U0001f600", "other name": "", "note": "  "},
    {"text": "", "other name": "\x1f", "note": "{text}"},
]


@pytest.mark.parametrize("prompt", [PLAIN, TURNS])
@pytest.mark.parametrize("constrain", ["", ", constrain: answers"])
@pytest.mark.parametrize("service", ["recorded/0123456789ab", "together"])
def test_keys_are_those_of_the_requests(tmp_path: Path, prompt: str, constrain: str, service: str) -> None:
    (tmp_path / "t.yaml").write_text(f"""
task: t
kind: choose
dataset: {{path: rows.jsonl, id: id, label: label, options: options}}
{prompt}
cheap: {{model: m, top_logprobs: 5, params: {{temperature: 0.0, max_tokens: 4, stop: ["\\n", "é"]}}, replies: c.jsonl{constrain}, usd_per_million_tokens: {{input: 1, output: 1, as_of: 2026-01-01, source: x}}}}
strong: {{model: s, params: {{seed: 1}}, replies: s.jsonl, usd_per_million_tokens: {{input: 1, output: 1, as_of: 2026-01-01, source: x}}}}
target: {{kind: match_strong, within: 0.1}}
""")
    config = yaml_file.load(tmp_path / "t.yaml")
    for role in ("cheap", "strong"):
        keys = RequestKeys(config, role, service=service, model="m")
        for name, columns in zip(("1", "zwei \u00fc", '"', "\\"), ROWS, strict=True):
            for options in (None, 2, 26):
                request = request_for(config, role, name, columns, service=service, model="m", options=options)
                assert keys.key(name, keys.messages(columns), options) == request.request_id
