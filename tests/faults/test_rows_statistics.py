"""Rows of the fault matrix about statistics, through the real command: tables with known figures, up to the page and the policy."""

from __future__ import annotations

import json
import sqlite3
import tomllib
import zlib
from collections.abc import Sequence
from contextlib import closing
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fake_provider import LABELS as WORDS
from fake_provider import FakeProvider, Post, Step, label_of, ok
from fault_run import FaultRun, artefacts_match_their_schemas
from foreign_input import call
from scipy.stats import beta, binom

from cascade_threshold.policy import Policy

LABELS = ("ham", "spam")
ENDS = 0.01
"""Figures on the rows that certify have 99 % intervals."""


class Table:
    """A table of predictions in a folder of its own; `cheap` and `strong` say which answers are right, None: not asked."""

    def __init__(self, folder: Path, confidence: Sequence[Any], cheap: Any, strong: Any, target: str) -> None:
        self.folder = folder
        folder.mkdir()
        labels = [LABELS[i % 2] for i in range(len(confidence))]
        answers = {
            f"{role}_answer": [
                None if known is None else label if known else LABELS[1 - LABELS.index(label)]
                for label, known in zip(labels, right, strict=True)
            ]
            for role, right in {"cheap": cheap, "strong": strong}.items()
        }
        ids = [f"r{i}" for i in range(len(labels))]
        prices = {"cheap_usd": [1e-5] * len(labels), "strong_usd": [None if s is None else 1e-3 for s in strong]}
        columns = {"example_id": ids, "label": labels, "confidence": confidence, **answers, **prices}
        pq.write_table(pa.table(columns), folder / "rows.parquet")
        self.config = folder / "stats.yaml"
        self.config.write_text(
            f"task: stats\nkind: classify\nlabels: [{', '.join(LABELS)}]\npredictions: {{path: rows.parquet}}\n"
            f"target: {target}\n"
        )

    def __call__(self, command: str, *options: str) -> tuple[int, str, str]:
        places = ["--runs-dir", str(self.folder / "runs"), "--reports-dir", str(self.folder / "reports")]
        return call([command, str(self.config), *places, *options])

    def evaluate(self, *options: str) -> Table:
        code, out, err = self("evaluate", "--quiet", "--json", *options)
        assert (code, err) == (0, "")
        artefacts_match_their_schemas(self.folder)
        self.printed: dict[str, Any] = json.loads(out)
        self.page = Path(self.printed["report"]).read_text()
        return self

    def json(self, name: str) -> dict[str, Any]:
        (path,) = (self.folder / "runs").rglob(name)
        return json.loads(path.read_text())

    def rows(self, name: str) -> list[dict[str, Any]]:
        (path,) = (self.folder / "runs").rglob(name)
        return pq.read_table(path).to_pylist()

    def warned(self) -> dict[str, str]:
        return {warning["code"]: warning["text"] for warning in self.json("recommendation.json")["warnings"]}


def shown(page: str) -> str:
    """What a page says, without its markup."""
    texts: list[str] = []

    class Read(HTMLParser):
        def handle_data(self, data: str) -> None:
            texts.append(data)

    Read().feed(page)
    return " ".join(texts)


def exact(hits: int, n: int, ends: float) -> tuple[float, float]:
    """Clopper and Pearson's limits, from the quantiles of the beta distribution."""
    low = 0.0 if hits == 0 else float(beta.ppf(ends / 2, hits, n - hits + 1))
    high = 1.0 if hits == n else float(beta.ppf(1 - ends / 2, hits + 1, n - hits))
    return low, high


N = 240
SPREAD = [round(0.2 + 0.003 * i, 4) for i in range(N)]
WITHIN = "{kind: match_strong, within: 0.02}"


@pytest.mark.slow
@pytest.mark.parametrize(("cheap", "verdict"), [(True, "cheap_only"), (False, "strong_only")])
def test_row_47_all_right_or_all_wrong_has_exact_intervals_and_never_none(
    tmp_path: Path, cheap: bool, verdict: str
) -> None:
    found = Table(tmp_path / "t", SPREAD, [cheap] * N, [True] * N, WITHIN).evaluate()
    assert found.printed["verdict"] == verdict
    expected = found.json("recommendation.json")["expected"]
    share = expected["cheap_accuracy"]
    assert (share["value"], share["lower"], share["upper"]) == pytest.approx((float(cheap), *exact(N * cheap, N, ENDS)))
    kept = expected["accepted_accuracy"]
    if cheap:
        assert (kept["value"], kept["lower"], kept["n"]) == pytest.approx((1.0, exact(N, N, ENDS)[0], N))
    else:
        assert (kept["value"], kept["lower"], kept["n"]) == (None, None, 0), "of nothing kept, nothing is known"
        assert found.json("policy.json")["threshold"] is None
        assert "the cheap model was never right" in found.printed["sentence"]
    for row in found.rows("sweep.parquet"):
        if row["n_accepted"]:
            low, high = exact(row["n_accepted"] * cheap, row["n_accepted"], ENDS)
            assert (row["accepted_accuracy_lower"], row["accepted_accuracy_upper"]) == pytest.approx((low, high))
        else:
            assert row["accepted_accuracy"] is row["selective_risk"] is row["accepted_accuracy_upper"] is None
    text = shown(found.page)
    assert not {"[100, 100]", "[0, 0]", "nan"} & {" ".join(pair) for pair in pairwise(["", *text.lower().split()])}


@pytest.mark.parametrize("n", [pytest.param(110, marks=pytest.mark.slow), 120])
def test_row_47_a_cheap_model_that_is_always_right_is_limited_by_the_number_of_rows(tmp_path: Path, n: int) -> None:
    """Without an error, losses beyond 2 % are excluded at 90 % once .98^n <= .1: from 114 rows on."""
    found = Table(tmp_path / "t", SPREAD[:n], [True] * n, [True] * n, WITHIN).evaluate()
    enough = binom.cdf(0, n, 0.02) <= 0.1
    assert found.printed["verdict"] == ("cheap_only" if enough else "uncertified")
    assert (found.json("policy.json")["threshold"] == 0.0) == enough


@pytest.mark.slow
def test_row_48_ties_of_16_bit_confidences_move_together_and_no_threshold_lies_within_one(tmp_path: Path) -> None:
    """As bf16 logits leave them: few values, many rows at each, and exp rounds to 1 near 0."""
    rng = np.random.default_rng(4)
    values = np.array([1.0, 1.0, 0.99609375, 0.9921875, 0.96875, 0.9375, 0.875, 0.75, 0.5])
    confidence = rng.choice(values, N)
    right = [bool(x) for x in rng.random(N) < confidence**4]
    found = Table(
        tmp_path / "t", confidence.tolist(), right, [True] * N, "{kind: match_strong, within: 0.1}"
    ).evaluate()
    distinct = sorted(set(confidence.tolist()))
    part = {row["threshold"]: row["n_accepted"] for row in found.rows("sweep.parquet") if row["split"] == "certify"}
    kept = [part[threshold] for threshold in sorted(part)]
    assert kept == [int((confidence >= value).sum()) for value in distinct], (
        "each set of whole ties, once, ever smaller"
    )
    assert "ties" in found.warned()
    policy = found.json("policy.json")
    assert policy["verdict"] == "certified"
    decided = {value: Policy(policy).decide_confidence(value).action for value in distinct}
    assert (
        sum(decided[value] == "accept" for value in confidence)
        == found.json("recommendation.json")["certificate"]["n_accepted"]
    )
    assert 0 < sum(decided[value] == "accept" for value in confidence) < N


@pytest.mark.slow
def test_row_48_a_confidence_that_is_always_the_same_keeps_all_or_nothing(tmp_path: Path) -> None:
    found = Table(tmp_path / "t", [0.8] * N, [i % 10 > 0 for i in range(N)], [True] * N, WITHIN).evaluate()
    assert found.printed["verdict"] == "uncertified"
    assert {row["n_accepted"] for row in found.rows("sweep.parquet") if row["split"] == "certify"} == {0, N}
    assert found.warned().keys() >= {"ties", "uninformative"}


@pytest.mark.slow
def test_row_49_too_few_rows_say_how_many_are_needed_and_export_nothing(tmp_path: Path) -> None:
    right = [i % 12 > 0 or i > 24 for i in range(60)]
    found = Table(tmp_path / "t", SPREAD[:60], right, [True] * 60, WITHIN).evaluate()
    policy, advice = found.json("policy.json"), found.json("recommendation.json")
    assert (found.printed["verdict"], policy["verdict"], policy["threshold"]) == ("uncertified", "uncertified", None)
    needed = advice["labels_needed"]
    assert needed > 50
    assert "no threshold could be shown to stay within 2 points" in found.printed["sentence"]
    assert "more labeled rows would change that" in found.printed["sentence"]
    code, out, err = found("export")
    assert (code, out) == (5, "")
    assert "--allow-uncertified" in err
    code, out, err = found("export", "--allow-uncertified", "--format", "json")
    assert code == 0, err
    decide = Policy(json.loads(out)).decide_confidence
    assert {decide(value).action for value in (0.0, 0.5, 1.0, None)} == {"escalate"}


@pytest.mark.slow
def test_row_50_a_strong_model_that_is_worse_is_said_and_its_curve_is_not_bent_upwards(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    cheap, strong = rng.random(N) < 0.97, rng.random(N) < 0.7
    found = Table(tmp_path / "t", SPREAD, cheap.tolist(), strong.tolist(), WITHIN).evaluate()
    assert found.printed["verdict"] == "cheap_only"
    assert "the strong model is the less accurate of the two" in found.printed["sentence"]
    assert "strong_worse" in found.warned()
    for row in found.rows("sweep.parquet"):
        if row["split"] == "certify":
            kept = np.array(SPREAD) >= row["threshold"]
            assert row["system_accuracy"] == pytest.approx(np.where(kept, cheap, strong).mean())
    advice = found.json("recommendation.json")
    assert advice["difference"]["value"] == pytest.approx(cheap.mean() - strong.mean())
    assert advice["expected"]["strong_accuracy"]["value"] == pytest.approx(strong.mean())


@pytest.mark.slow
def test_row_50_where_the_strong_model_has_no_answer_both_are_compared_on_the_rows_of_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    cheap = rng.random(N) < 0.8
    strong = [None if i % 20 == 0 else bool(rng.random() < 0.95) for i in range(N)]
    target = "{kind: match_strong, within: 0.1}"
    found = Table(tmp_path / "t", SPREAD, cheap.tolist(), strong, target).evaluate()
    paired = [i for i in range(N) if strong[i] is not None]
    threshold, told = found.json("policy.json")["threshold"], found.json("recommendation.json")
    lost = [int(cheap[i]) - int(bool(strong[i])) if SPREAD[i] >= threshold else 0 for i in paired]
    assert (told["difference"]["n"], told["difference"]["value"]) == (len(paired), pytest.approx(np.mean(lost)))
    assert told["expected"]["strong_accuracy"]["n"] == len(paired)
    assert "have no strong answer that can be graded" in found.warned()["missing_strong"]
    # a missing answer counts as a right one of the strong model: the verdict is that of the table with them filled in so
    (tmp_path / "full").mkdir()
    filled = [True if known is None else known for known in strong]
    full = Table(tmp_path / "full" / "t", SPREAD, cheap.tolist(), filled, target).evaluate()
    for name in ("threshold", "verdict"):
        assert found.json("policy.json")[name] == full.json("policy.json")[name]


ENDS_OF_RANGES = [
    ["target.within=0.000001", "target.certainty=0.999999", "looks.planned=10000", "review_after_days=36500"],
    ["target.within=0.999999", "target.certainty=0.5", "volume.requests_per_month=1000000000000000", "seed=0"],
    ["target={kind: accepted_accuracy, at_least: 0.000001}"],
    ["target={kind: total_cost, usd_per_error: 1000000000}"],
    ["target={kind: total_cost, usd_per_error: {ham: {spam: -1e9}, spam: 1e9}}"],
    ["target={kind: budget, escalation_rate: 0.000001}"],
    ["target={kind: budget, usd_per_1000: 1e-300}"],
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", ENDS_OF_RANGES, ids=lambda settings: settings[0])
def test_row_76_numbers_at_the_ends_of_what_a_config_may_say_end_in_a_report(
    tmp_path: Path, settings: list[str]
) -> None:
    rng = np.random.default_rng(8)
    right = [bool(x) for x in rng.random(N) < 0.9]
    found = Table(tmp_path / "t", SPREAD, right, [True] * N, WITHIN).evaluate(*(f"--set={s}" for s in settings))
    assert " nan " not in shown(found.page).lower()
    assert " inf " not in shown(found.page).lower()


# Row 52: what is exported decides as the tables do


def exported(formats: dict[str, str]) -> dict[str, float | None]:
    """The threshold that each export holds, by a reader that is not ours."""
    env = dict(line.split("=", 1) for line in formats["env"].splitlines() if line[:1] not in ("#", ""))
    (bare,) = (value for name, value in env.items() if name.endswith("_THRESHOLD"))
    listed = yaml.safe_load(formats["litellm"])["model_list"][0]["model_info"]["metadata"]["cascade_threshold"]
    return {
        "json": json.loads(formats["json"])["threshold"],
        "yaml": yaml.safe_load(formats["yaml"])["threshold"],
        "toml": tomllib.loads(formats["toml"])["threshold"],
        "env": float(bare.strip('"')),
        "litellm": float(listed),
    }


def harder(text: str) -> bool:
    """Whether the strong model alone knows what a text of the fake service is."""
    return label_of(text)[1] < -0.9


def truth(text: str) -> str:
    return WORDS[(WORDS.index(label_of(text)[0]) + harder(text)) % len(WORDS)]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaultRun, dict[str, str]]:
    """An evaluation with a threshold amid its confidences, and its policy in every format."""
    run = FaultRun(tmp_path_factory.mktemp("replayed"), rows=N, settings="signal: label_sequence\n")
    texts = [f"mail {i}." for i in range(N)]
    run.write_rows([{"id": f"m{i}", "text": text, "label": truth(text)} for i, text in enumerate(texts)])

    def knows(post: Post) -> Step | None:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": truth(post.text)}}
        return ok(choices=[choice]) if post.body["model"] == "large" else None

    dear = "--set=strong.usd_per_million_tokens.input=50"
    with FakeProvider(knows) as api:
        ended = run(api, "evaluate", dear)
        assert ended.code == 0, ended.err
        formats = {}
        for name in ("json", "yaml", "toml", "env", "litellm"):
            ended = run(api, "export", "--format", name, dear)
            assert ended.code == 0, ended.err
            formats[name] = ended.out
    return run, formats


@pytest.mark.slow
def test_row_52_every_export_decides_each_kept_reply_as_the_tables_of_its_run(
    replayed: tuple[FaultRun, dict[str, str]],
) -> None:
    run, formats = replayed
    rows = {row["example_id"]: row for row in run.table("predictions.parquet")}
    (threshold,) = {repr(value) for value in exported(formats).values()}
    confidences = sorted({row["confidence"] for row in rows.values()})
    assert confidences[0] < float(threshold) <= confidences[-1]
    policies = [Policy(json.loads(formats["json"])), Policy(yaml.safe_load(formats["yaml"]))]
    with closing(sqlite3.connect(run.store)) as direct:
        bodies = dict(direct.execute("SELECT request_id, body FROM attempt WHERE state='ok'").fetchall())
    kept = 0
    for reply in run.table("replies.parquet"):
        if reply["role"] == "cheap":
            row = rows[reply["example_id"]]
            for policy in policies:
                decision = policy.decide(zlib.decompress(bodies[reply["request_id"]]))
                assert decision.confidence == row["confidence"]
                assert (decision.action == "accept") == (row["confidence"] >= float(threshold))
            kept += decision.action == "accept"
    (advice,) = run.run_folder.rglob("recommendation.json")
    assert kept == json.loads(advice.read_text())["certificate"]["n_accepted"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16()], ids=str)
def test_row_52_confidences_of_any_width_are_decided_as_they_were_certified_the_threshold_itself_included(
    tmp_path: Path, kind: pa.DataType
) -> None:
    """A threshold is kept by a row that has just that confidence, whatever the float it came as."""
    rng = np.random.default_rng(9)
    exact = np.sort(rng.random(N)).astype(kind.to_pandas_dtype())
    right = [bool(x) for x in rng.random(N) < 0.3 + 1.2 * exact.astype(float)]
    target = "{kind: match_strong, within: 0.1}"
    found = Table(tmp_path / "t", pa.array(exact, kind), right, [True] * N, target).evaluate()
    policy, advice = Policy(found.json("policy.json")), found.json("recommendation.json")
    rows = found.rows("predictions.parquet")
    assert [row["confidence"] for row in rows] == exact.astype(float).tolist(), "to the bit"
    kept = [row["confidence"] for row in rows if policy.decide_confidence(row["confidence"]).action == "accept"]
    assert 0 < len(kept) == advice["certificate"]["n_accepted"] < N
    edge = {**found.json("policy.json"), "threshold": min(kept)}
    edge_policy = Policy(json.loads(json.dumps(edge)))
    assert edge_policy.decide_confidence(min(kept)).action == "accept", "a tie stays with the cheap model"
    assert edge_policy.decide_confidence(np.nextafter(min(kept), 0)).action == "escalate"
