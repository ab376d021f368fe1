"""A small task with recorded replies, for tests of the command line."""

from __future__ import annotations

CONFIG = """\
task: tickets
kind: classify
dataset: {path: rows.csv, label: label, id: id}
labels: [billing, account]
prompt: {user: "{text}"}
provider: recorded
cheap:
  model: small
  usd_per_million_tokens: {input: 0.1, output: 0.2, as_of: 2026-11-01, source: list}
  params: {max_tokens: 8}
  replies: cheap.jsonl
strong:
  model: large
  usd_per_million_tokens: {input: 1, output: 2, as_of: 2026-11-01, source: list}
  params: {max_tokens: 8}
  replies: strong.jsonl
target: {kind: match_strong, within: 0.02}
"""
