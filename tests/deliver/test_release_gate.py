"""The release gate from the command line: which policies pass, and what a refused one is told."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.__main__ import main

pytestmark = pytest.mark.slow
Gate = Callable[..., tuple[int, str]]


def table(path: Path, *, right: float, seed: int = 1, rows: int = 1500) -> None:
    """Rows whose cheap answers are right with probability `right` above a confidence of 0.7, and 0.6 below."""
    draw = random.Random(seed)
    lines = ["example_id,confidence,cheap_correct,strong_correct,cheap_usd,strong_usd"]
    for i in range(rows):
        confidence = 1 - (i % 97) / 200
        good = int(draw.random() < (right if confidence > 0.7 else min(right, 0.6)))
        lines.append(f"r{i},{confidence},{good},{int(draw.random() < 0.95)},0.00001,0.001")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certified decision in good.csv, and one whose cheap model is no use in bad.csv."""
    folder = tmp_path_factory.mktemp("gate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.05}\n")
        table(folder / "good.csv", right=0.97)
        table(folder / "bad.csv", right=0.62, rows=60)
        for name in ("good", "bad"):
            assert main(["evaluate", "mine.yaml", "--predictions", f"{name}.csv", "--quiet"]) == 0
        assert main(["export", "mine.yaml", "--predictions", "good.csv", "--output", "previous.json", "--quiet"]) == 0
    return folder


@pytest.fixture
def gate(decided: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Gate:
    monkeypatch.chdir(decided)

    def passed(*arguments: str, table: str = "good.csv") -> tuple[int, str]:
        code = main(["export", "mine.yaml", "--predictions", table, "--quiet", *arguments])
        return code, capsys.readouterr().err

    return passed


def test_a_certified_policy_passes_limits_it_keeps_and_names_those_it_does_not(decided: Path, gate: Gate) -> None:
    expected = json.loads((decided / "previous.json").read_text())["expected"]
    share, usd = (expected[name]["value"] for name in ("escalation_rate", "usd_per_1000"))
    assert gate("--require", "certified", "--max-escalation", f"{share}", "--max-usd-per-1000", f"{usd}")[0] == 0
    code, err = gate("--max-escalation", "0.01", "--max-usd-per-1000", "0.02")
    assert code == 5
    assert f"escalation rate is {100 * share:.4g} %, above the 1 % of --max-escalation" in err
    assert f"${usd:.5g}, above the $0.02 of --max-usd-per-1000" in err


@pytest.mark.parametrize("value", ["40", "-0.1", "nan", "much"])
def test_a_share_is_between_0_and_1(gate: Gate, value: str) -> None:
    with pytest.raises(SystemExit) as left:
        gate(f"--max-escalation={value}")
    assert left.value.code == 2


def test_what_is_not_certified_does_not_pass_whatever_is_allowed(gate: Gate) -> None:
    for more in ((), ("--allow-uncertified",)):
        code, err = gate("--require", "certified", *more, table="bad.csv")
        assert code == 5
        assert "--require certified takes certified and cheap_only only" in err
    code, err = gate("--allow-uncertified", "--max-escalation", "0.9", table="bad.csv")
    assert code == 5, "everything escalates"
    assert "escalation rate is 100 %, above the 90 %" in err


def test_against_the_same_policy_passes_and_a_worse_one_does_not(decided: Path, gate: Gate) -> None:
    assert gate("--require", "certified", "--against", "previous.json")[0] == 0
    code, err = gate("--allow-uncertified", "--against", "previous.json", table="bad.csv")
    assert code == 5
    assert "the previous policy's is certified" in err
    upper = json.loads((decided / "previous.json").read_text())["expected"]["escalation_rate"]["upper"]
    assert f"escalation rate is 100 %, above {100 * upper:.4g} %, the end of the previous policy's interval" in err


@pytest.mark.filterwarnings("ignore:.*edited after it was written")
def test_against_refuses_a_weaker_promise_another_task_and_an_edited_file(decided: Path, gate: Gate) -> None:
    weaker = ("--set", "target.within=0.06")
    assert main(["evaluate", "mine.yaml", "--predictions", "good.csv", "--quiet", *weaker]) == 0
    code, err = gate(*weaker, "--against", "previous.json")
    assert code == 5
    assert "within 0.06, and 0.05 in the previous policy" in err
    policy = json.loads((decided / "previous.json").read_text())
    policy["expected"]["escalation_rate"]["upper"] = 1.0
    (decided / "edited.json").write_text(json.dumps(policy))
    code, err = gate("--against", "edited.json")
    assert code == 2
    assert "edited" in err
    (decided / "no.json").write_text("{")
    assert gate("--against", "no.json")[0] == 2
    assert gate("--against", "absent.json")[0] == 2


def test_strong_only_promises_and_is_not_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("task: mine\nkind: classify\ntarget: {kind: match_strong, within: 0.01}\n")
    table(Path("t.csv"), right=0.0, rows=1500)
    assert main(["evaluate", "mine.yaml", "--predictions", "t.csv", "--quiet", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)["verdict"]
    assert verdict == "strong_only"
    assert main(["export", "mine.yaml", "--predictions", "t.csv", "--quiet"]) == 0
    assert main(["export", "mine.yaml", "--predictions", "t.csv", "--quiet", "--require", "certified"]) == 5
    assert "its verdict is strong_only" in capsys.readouterr().err
