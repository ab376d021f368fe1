"""Inputs made after public bug reports, each through the real command, with what it must give. Set CASES_DIR to run them."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main

CASES = os.environ.get("CASES_DIR")
ROOT = Path(__file__).resolve().parent.parent
needs_cases = pytest.mark.skipif(CASES is None, reason="CASES_DIR is not set")


def case(tmp_path: Path, name: str) -> Path:
    """A copy of a case's folder, unpacked."""
    folder = tmp_path / "case"
    shutil.copytree(Path(str(CASES)) / name, folder)
    for packed in folder.glob("*.gz"):
        packed.chmod(0o600)
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line, run in the folder."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments], cwd=folder, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [("01/c_think", "95.1 %"), ("03/c_zh", "95.1 %"), ("11/r_dup", "%"), ("19/c_nullalt", "%")],
)
def test_a_case_whose_answers_can_be_read_is_certified(tmp_path: Path, name: str, said: str) -> None:
    code, out, err = command(case(tmp_path, name), "evaluate", "c.yaml", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["verdict"] == "certified"
    assert said in found["sentence"].replace("\u00a0", " ")


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("01/c_jbool", "400 of 400 strong answers are none of the labels: '{\"relevant\": true}' 206 times"),
        ("07/ch_num", "give the letter of the right option"),
    ],
)
def test_a_case_that_has_no_right_value_is_refused_with_its_cause(tmp_path: Path, name: str, said: str) -> None:
    code, _, err = command(case(tmp_path, name), "evaluate", "c.yaml", "--quiet")
    assert code == 2
    assert said in err


@needs_cases
@pytest.mark.slow
def test_indices_from_0_name_the_options_they_count(tmp_path: Path) -> None:
    code, _, err = command(case(tmp_path, "07/ch_idx"), "evaluate", "c.yaml", "--quiet")
    assert code == 0, err


@needs_cases
@pytest.mark.slow
def test_the_order_of_a_judges_labels_changes_nothing(tmp_path: Path) -> None:
    ranked = []
    for name in ("08/j_order_yes_first", "08/j_order_no_first"):
        folder = case(tmp_path / name.replace("/", "-"), name)
        code, out, err = command(folder, "evaluate", "c.yaml", "--json", "--quiet")
        assert code == 0, err
        found = json.loads(Path(folder, json.loads(out)["report"]).with_name("report.json").read_text("utf-8"))
        ranked.append(json.dumps(found.get("ranking"), sort_keys=True))
    assert ranked[0] == ranked[1]


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(("config", "table"), [("m.yaml", "onecase.csv"), ("c.yaml", "eps.parquet")])
def test_tables_of_predictions_are_read(tmp_path: Path, config: str, table: str) -> None:
    code, out, err = command(case(tmp_path, "10"), "evaluate", config, "--predictions", table, "--json", "--quiet")
    assert code == 0, err
    assert json.loads(out)["verdict"] in ("certified", "uncertified")


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize("name", ["14/r_strerr", "14/r_status0"])
def test_lines_of_other_shapes_are_failed_rows(tmp_path: Path, name: str) -> None:
    folder = case(tmp_path, name)
    code, _, err = command(folder, "evaluate", "c.yaml", "--set", "max_failure_rate=0.5")
    assert code == 0, err


@needs_cases
@pytest.mark.slow
@pytest.mark.parametrize(
    "table", ["12/hyphen.csv", "12/spaces.csv", "12/reviews.csv", "17/binary.parquet", "21/index.csv", "21/trailing.csv", "21/noheader.csv"]
)  # fmt: skip
def test_new_writes_what_estimate_accepts(tmp_path: Path, table: str) -> None:
    folder, file = table.split("/")
    here = case(tmp_path, folder)
    (here / "configs").mkdir()
    code, out, err = command(here, "new", "mine", "--from", file)
    assert code == 0, err
    assert ("looks like a row, not a header" in out) == (file == "noheader.csv")
    code, _, err = command(here, "estimate", "mine")
    assert code == 0, err


# Own-made equivalents, always run.


def proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *options: str) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir(exist_ok=True)
    (tmp_path / "t.csv").write_text(text, "utf-8")
    assert main(["new", "mine", "--from", "t.csv", *options]) == 0
    return (tmp_path / "configs" / "mine.yaml").read_text("utf-8")


ROWS = [
    (i, f"2026-01-{i % 28 + 1:02d}", f"a message about subject {i}, number {i * 7}", "ab"[i % 3 == 0])
    for i in range(60)
]


def test_ids_times_and_constants_stay_out_of_a_proposed_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f'{i},{i},{day},eu-west,"{text}",{label},,' for i, day, text, label in ROWS]
    made = proposed(
        tmp_path, monkeypatch, "\n".join([",Ticket ID,Sent-On,Region,Body Text,Class Name,,", *lines]) + "\n"
    )
    assert 'user: "{Body Text}"' in made
    assert 'label: "Class Name"' in made
    assert "Ticket ID" not in made
    assert "Sent-On" not in made
    assert "looks like a row" not in capsys.readouterr().out


def test_label_and_text_can_be_named_and_a_column_that_is_not_there_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f'"{text}",{label},{"xy"[i % 2]}' for i, _, text, label in ROWS]
    made = proposed(
        tmp_path, monkeypatch, "\n".join(["note,label,other", *lines]), "--label", "other", "--text", "note"
    )
    assert 'label: "other"' in made
    (tmp_path / "configs" / "mine.yaml").unlink()
    assert main(["new", "mine", "--from", "t.csv", "--label", "nope"]) == 2
    assert list((tmp_path / "configs").iterdir()) == []


def test_a_table_of_predictions_is_proposed_in_three_lines_with_its_columns_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{0.5 + i / 200},{int(i % 9 > 0)}" for i in range(60)]
    made = proposed(tmp_path, monkeypatch, "\n".join(["score,correct", *lines]))
    assert 'columns: {confidence: "score", cheap_correct: "correct"}' in made
    assert len(made.splitlines()) == 4
