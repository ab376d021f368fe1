"""A config is right, or its error says where, what, why and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.yaml_file import find, known_tasks, load
from pipeline.decide.target import Goal
from pipeline.errors import ConfigError, UsageError

GOOD = """\
task: sorting
kind: classify
dataset:
  path: rows.csv
  label: label
labels: [work, "yes", no, "01"]
prompt: {system: "Sort.", user: "{text} {{literal}}"}
cheap:
  model: small
  usd_per_million_tokens: {input: 0.1, output: 0.2, as_of: 2026-11-01, source: list}
  params: {max_tokens: 8}
strong:
  model: large
  usd_per_million_tokens: {input: 1, output: 2, as_of: 2026-11-01, source: list}
target: {kind: match_strong, within: 0.02}
"""


def written(tmp_path: Path, old: str = "", new: str = "") -> Path:
    assert old in GOOD
    path = tmp_path / "sorting.yaml"
    path.write_text(GOOD.replace(old, new, 1) if old else GOOD, encoding="utf-8")
    return path


def test_a_good_config_keeps_yes_and_no_as_text_and_fills_defaults(tmp_path: Path) -> None:
    config = load(written(tmp_path))
    assert config.labels == ("work", "yes", "no", "01")
    assert config.target.certainty == 0.9
    assert config.target.delta == 0.1
    assert config.strong is not None
    assert config.signal is None
    assert config.split.model_dump() == {"fit": 0.0, "certify": 1.0, "test": 0.0}
    assert config.strong_splits == ("certify", "test")
    assert config.prompt is not None
    assert config.prompt.columns == ("text",)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("[work,", "[true,", 6, "labels.0: must be text"),
        ('"01"]', "01]", 6, "labels.3: must be text"),
        ("[work,", "[2024-01-01,", 6, "put it in quotes"),
        ("target: {kind: match_strong, within: 0.02}", "target: {kind: match_strong}", 15, "needs within"),
        ("within: 0.02", "at_least: 0.9", 15, "at_least does not belong"),
        ("within: 0.02", "within: 1.5", 15, "must be between 0.000001 and 0.999999"),
        ("match_strong, within: 0.02", "total_cost, usd_per_error: {wrok: 1}", 15, "usd_per_error names 'wrok'"),
        (
            "match_strong, within: 0.02",
            "total_cost, usd_per_error: {work: {nope: 1}}",
            15,
            "usd_per_error names 'nope'",
        ),
        ("kind: classify", "kind: clasify", 2, "'classify'"),
        ("kind: classify", "kind: classify\nkind: judge", 3, "duplicate key"),
        ("prompt:", "promt:", 7, "did you mean 'prompt'"),
        ("input: 0.1", "input: -1", 10, "must be between 0 and"),
        ("as_of: 2026-11-01, ", "", 10, "as_of: is required"),
        ("{text}", "{}", 7, "must be a column name"),
        ("max_tokens: 8", "logprobs: 5", 11, "set by the pipeline itself"),
        ("task: sorting", "task: ../up", 1, "a-z, 0-9 and _"),
        ("{text} {{literal}}", "{text", 7, "literal brace"),
        ("{text} {{literal}}", "{text} \\ud83d", 7, "half a character"),
        ("  label: label\n", "", 3, "only target agree_with_strong"),
    ],
)
def test_each_fault_names_line_key_rule_and_remedy(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    path = written(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert said in message
    # a rule between keys of one mapping is reported where that mapping starts, or for the whole file
    assert message.startswith((f"{path}:{line}:", f"{path}: config")), message


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "match_strong", "within": 0},
        {"kind": "match_strong", "within": 1},
        {"kind": "agree_with_strong", "within": -0.02},
        {"kind": "accepted_accuracy", "at_least": 95},
        {"kind": "system_accuracy", "at_least": 1.0},
        {"kind": "budget", "escalation_rate": 1.5},
        {"kind": "budget", "usd_per_1000": 0},
        {"kind": "total_cost", "usd_per_error": -1},
        {"kind": "total_cost", "usd_per_error": {"work": {"work": 3}}},
        {"kind": "total_cost", "usd_per_error": {"work": {}, "yes": 2}},
        {"kind": "match_strong", "within": 0.02, "label_floors": {"work": 1}},
        {"kind": "match_strong", "within": 0.02, "segment_floors": {"mail": 0}},
        {"kind": "match_strong", "within": 0.02, "segment_floors": {"mail": {"work": 2}}},
        {"kind": "match_strong"},
        {"kind": "budget", "escalation_rate": 0.1, "usd_per_1000": 2},
        {"kind": "accepted_accuracy", "at_least": 0.9, "within": 0.02},
        {"kind": "budget", "escalation_rate": 0.1, "label_floors": {"work": 0.9}},
        {"kind": "agree_with_strong", "within": 0.1, "segment_floors": {"mail": 0.9}},
    ],
    ids=str,
)
def test_a_target_that_cannot_be_is_refused_with_the_same_rule_from_a_config_and_from_a_call(
    tmp_path: Path, target: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as of_config:
        load(written(tmp_path, "target: {kind: match_strong, within: 0.02}", f"target: {json.dumps(target)}"))
    with pytest.raises(ValueError, match=r"target|must be") as of_call:
        Goal(delta=0.1, **target)
    place, _, rule = str(of_config.value).partition(": target")
    assert place.endswith("sorting.yaml:15")
    told = str(of_call.value)
    assert rule in (f".{told}", f": {told}"), "the place differs, the rule does not"


def test_open_ended_generation_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = written(tmp_path, 'labels: [work, "yes", no, "01"]\n', "")
    with pytest.raises(ConfigError, match="open-ended generation has no answer set"):
        load(path)


def test_broken_yaml_is_located(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sorting\.yaml:\d+: not valid YAML"):
        load(written(tmp_path, '"01"]', '"01"'))


def test_python_objects_and_alias_bombs_are_not_built(tmp_path: Path) -> None:
    target = tmp_path / "made"
    path = tmp_path / "evil.yaml"
    path.write_text(f"task: !!python/object/apply:os.mkdir ['{target}']\n")
    with pytest.raises(ConfigError):
        load(path)
    assert not target.exists()
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match="aliases"):
        load(path)


def test_pooled_rows_all_certify_and_need_a_signal_that_no_row_chooses(tmp_path: Path) -> None:
    path = written(tmp_path)
    config = load(path, ["dataset.split=pooled", "signal=first_token"])
    assert config.dataset is not None
    assert config.dataset.split.model_dump() == {"fit": 0, "certify": 1, "test": 0}
    half = load(path, ["dataset.split={fit: 0.3, certify: 0.7, test: 0}"])
    assert half.dataset is not None
    assert half.dataset.split.test == 0
    for bad, told in (
        (["dataset.split=pooled", "signal=auto"], "name a signal"),
        (["dataset.split=pooled", "signal=learned"], "split.fit is 0"),
        (["dataset.split=whole", "signal=first_token"], "pooled"),
        (["dataset.split={fit: 0.5, certify: 0, test: 0.5}"], "certify must be above 0"),
    ):
        with pytest.raises(ConfigError, match=told):
            load(path, bad)


@pytest.mark.parametrize(
    ("said", "layout", "strong"),
    [
        ([], (0.0, 1.0, 0.0), ("certify", "test")),
        (["signal=first_token"], (0.0, 1.0, 0.0), ("certify", "test")),
        (["signal=auto"], (0.3, 0.7, 0.0), ("certify", "test")),
        (["signal=learned"], (0.3, 0.7, 0.0), ("certify", "test")),
        (["signal=auto", "dataset.split={fit: 0.2, certify: 0.5, test: 0.3}"], (0.2, 0.5, 0.3), ("certify", "test")),
        (["dataset.split={certify: 0.8, test: 0.2}"], (0.0, 0.8, 0.2), ("certify", "test")),
        # a cascade's own accuracy says on fit rows at which threshold to start, so both models answer them
        (["target={kind: system_accuracy, at_least: 0.9}"], (0.0, 1.0, 0.0), ("fit", "certify", "test")),
        (["strong.splits=[test]"], (0.0, 1.0, 0.0), ("test",)),
        # without labels the strong model's answers stand in for them
        (
            ["dataset.label=null", "target={kind: agree_with_strong, within: 0.1}"],
            (0.0, 1.0, 0.0),
            ("fit", "certify", "test"),
        ),
    ],
)
def test_what_is_left_out_of_the_layout_follows_from_signal_and_target(
    tmp_path: Path, said: list[str], layout: tuple[float, ...], strong: tuple[str, ...]
) -> None:
    config = load(written(tmp_path), said)
    assert tuple(config.split.model_dump().values()) == layout
    assert config.strong_splits == strong


def test_overrides_are_yaml_values_and_are_checked_like_the_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    config = load(
        path, ["target.within=0.01", "signal=first_token", "dataset.split={fit: 0.2, certify: 0.6, test: 0.2}"]
    )
    assert config.target.within == 0.01
    assert config.signal == "first_token"
    assert config.dataset is not None
    assert config.dataset.split.certify == 0.6
    with pytest.raises(ConfigError, match=r"target\.within"):
        load(path, ["target.within=yes"])
    with pytest.raises(ConfigError, match=r"key\.path=value"):
        load(path, ["target.within"])


def test_an_unknown_task_lists_what_there_is_and_guesses(tmp_path: Path) -> None:
    written(tmp_path)
    assert known_tasks(tmp_path) == ["sorting"]
    assert find("sorting", tmp_path).name == "sorting.yaml"
    with pytest.raises(UsageError, match="Did you mean 'sorting'"):
        find("sortng", tmp_path)
    with pytest.raises(UsageError, match="no such config file"):
        find("nowhere/x.yaml", tmp_path)


def test_people_as_the_strong_side_need_only_a_price(tmp_path: Path) -> None:
    old = GOOD[GOOD.index("strong:") : GOOD.index("target:")]
    config = load(written(tmp_path, old, "strong: {human: true, usd_per_request: 0.4}\n"))
    assert config.strong is not None
    assert config.strong.human
    with pytest.raises(ConfigError, match=r"strong\.usd_per_request: is required"):
        load(written(tmp_path, old, "strong: {human: true}\n"))


def test_paths_are_relative_to_the_config_and_addresses_stay(tmp_path: Path) -> None:
    config = load(written(tmp_path))
    assert config.resolve("rows.csv") == str(tmp_path / "rows.csv")
    assert config.resolve("s3://bucket/rows.csv") == "s3://bucket/rows.csv"


JUDGE = """
task: j
kind: judge
target: {kind: accepted_accuracy, at_least: 0.9}
"""


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("", ("yes", "no")),
        ("labels: [irrelevant, relevant]", ("relevant", "irrelevant")),
        ('labels: ["0", "1"]', ("1", "0")),
        ("labels: [non, oui]\njudge: {positive: oui}", ("oui", "non")),
        ("judge: {positive: good, negative: bad}", ("good", "bad")),
        ("judge: {grades: {0: 0, 1: 1, 2: 3}}", ("2", "0", "1")),
    ],
)
def test_a_judges_answers_begin_with_the_one_that_means_yes(
    tmp_path: Path, said: str, answers: tuple[str, ...]
) -> None:
    (tmp_path / "j.yaml").write_text(JUDGE + said, "utf-8")
    config = load(tmp_path / "j.yaml")
    assert config.answers == answers
    assert config.answer_set is not None
    assert config.answer_set.positive == 0


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("labels: [good, bad]", "judge.positive"),
        ("labels: [yes, relevant]", "judge.positive"),
        ("labels: [a, b]\njudge: {positive: c}", "none of the labels"),
        ("judge: {positive: good}", "judge.negative"),
        ('labels: ["0", "1", "2"]\njudge: {grades: {0: 0, 1: 1}}', "every label its gain"),
        ("judge: {grades: {0: 0, 1: 0}}", "every gain is 0"),
    ],
)
def test_a_judge_whose_yes_is_unknown_is_refused(tmp_path: Path, said: str, why: str) -> None:
    (tmp_path / "j.yaml").write_text(JUDGE + said, "utf-8")
    with pytest.raises(ConfigError, match=why):
        load(tmp_path / "j.yaml")
