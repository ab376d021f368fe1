"""`new` on tables as they come: which column names the rows, and labels that are spelled in several ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from pipeline.collect.data.config_scaffold import propose
from pipeline.collect.data.predictions_file import read
from pipeline.config.split import Split
from pipeline.errors import DataError


def proposed(folder: Path, header: str, *rows: str) -> tuple[dict[str, Any], str]:
    """The config that is proposed for a table of 60 rows, and what is to be checked."""
    lines = [row.replace("#", str(i)) for i in range(60) for row in [rows[i % len(rows)]]]
    (folder / "rows.csv").write_text("\n".join([header, *lines]) + "\n", "utf-8")
    found = propose("mine", str(folder / "rows.csv"), folder / "configs", fewest=lambda within: round(2.4 / within))
    return YAML(typ="safe").load(found.text), "\n".join(found.checks)


def test_labels_that_differ_in_capitals_and_white_space_are_one_label_and_that_is_said(tmp_path: Path) -> None:
    config, checks = proposed(
        tmp_path,
        "text,label",
        "mail #,spam",
        "mail #,work",
        "mail #,spam",
        "mail #, Work ",
        "mail #,work",
        "mail #,SPAM",
    )
    assert config["labels"] == ["spam", "work"]
    assert "spam, work." in config["prompt"]["system"]
    assert "' Work ' as 'work'" in checks
    assert "'SPAM' as 'spam'" in checks


def test_other_accents_and_other_words_stay_labels_of_their_own(tmp_path: Path) -> None:
    config, checks = proposed(tmp_path, "text,label", "mail #,café", "mail #,cafe", "mail #,cafes")
    assert sorted(config["labels"]) == ["cafe", "cafes", "café"]
    assert "as one label" not in checks


@pytest.mark.parametrize("name", ["Ticket No", "ticket_number", "ticketId", "REF", "case nr"])
def test_a_short_value_of_its_own_for_each_row_under_such_a_name_is_the_id(tmp_path: Path, name: str) -> None:
    config, _ = proposed(tmp_path, f"{name},text,label", "T#,mail number #,spam", "T#,mail number #,work")
    assert config["dataset"]["id"] == name
    assert config["prompt"]["user"] == "{text}"


def test_users_languages_and_ids_are_no_labels_wherever_they_stand(tmp_path: Path) -> None:
    config, _ = proposed(
        tmp_path, "Message,Is Spam?,Lang,User ID", "mail #,yes,en,u1", "mail #,no,de,u2", "mail #,no,de,u1"
    )
    assert (config["dataset"]["label"], config["labels"]) == ("Is Spam?", ["no", "yes"])
    assert (config["dataset"]["group"], config["dataset"]["segment"]) == ("User ID", "Lang")


def test_options_in_columns_of_their_own_stand_in_the_prompt(tmp_path: Path) -> None:
    """The labels are their names; without them the model would have to guess."""
    config, checks = proposed(tmp_path, "question,B,A,answer", "what is # and 1?,#,1#,A", "what is # and 2?,2#,#,B")
    assert config["labels"] == ["A", "B"]
    assert config["prompt"]["user"] == "Question: {question}\n\nA: {A}\n\nB: {B}"
    assert "not used" not in checks


def test_such_a_name_over_values_that_repeat_or_are_long_is_no_id(tmp_path: Path) -> None:
    config, _ = proposed(tmp_path, "case no,text,label", "A,mail number #,spam", "B,mail number #,work")
    assert "id" not in config["dataset"]
    config, _ = proposed(
        tmp_path,
        "why not or why no,label",
        f"{'a long reason of its own ' * 3}#,spam",
        f"{'a long reason of its own ' * 3}#,work",
    )
    assert "id" not in config["dataset"]
    assert config["prompt"]["user"] == "{why not or why no}"


def test_graded_predictions_under_names_of_their_own_are_told_how_to_be_named(tmp_path: Path) -> None:
    rows = [f"{i},{0.5 + i % 50 / 100},{int(i % 5 > 0)},{int(i % 9 > 0)}" for i in range(200)]
    table = tmp_path / "scores.csv"
    table.write_text("\n".join(["row,p_max,small_ok,large_ok", *rows]))
    with pytest.raises(DataError) as told:
        propose("mine", str(table), tmp_path / "configs", fewest=lambda within: 100)
    columns = str(told.value).split("columns: ")[-1].removesuffix("}")
    assert YAML(typ="safe").load(columns) == {
        "confidence": "p_max",
        "cheap_correct": "small_ok",
        "strong_correct": "large_ok",
    }


@pytest.mark.parametrize(
    ("scale", "written"),
    [
        ("percent", {"sep": ","}),
        ("logprob", {"sep": ","}),
        ("probability", {"sep": ";", "decimal": ","}),
        ("probability", {"sep": "\t"}),
    ],
)
def test_a_table_of_predictions_is_proposed_as_it_is_written(
    tmp_path: Path, scale: str, written: dict[str, str]
) -> None:
    draw = np.random.default_rng(4)
    p = draw.uniform(0.3, 1, 200)
    right = draw.random(200) < p
    confidence = {"percent": 100 * p, "logprob": np.log(p), "probability": p}[scale]
    table = tmp_path / ("t.tsv" if written["sep"] == "\t" else "t.csv")
    pd.DataFrame({"id": range(200), "confidence": confidence, "correct": right}).to_csv(table, index=False, **written)
    found = propose("mine", str(table), tmp_path, fewest=lambda within: 100)
    said = YAML(typ="safe").load(found.text)["predictions"]
    frame = read(
        table,
        Split(fit=0, certify=1, test=0),
        confidence=said.get("confidence", "probability"),
        columns=said["columns"],
    )
    assert frame["confidence"].to_numpy() == pytest.approx(p)
    assert frame["cheap_correct"].tolist() == right.tolist()
    assert frame["example_id"].tolist() == [str(i) for i in range(200)]


def test_a_table_of_predictions_may_write_its_names_for_people(tmp_path: Path) -> None:
    rows = [f"{40 + i % 60},{'yes' if i % 5 else 'no'},{int(i % 9 > 0)}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["Score (%),ok?,Strong Correct", *rows]))
    found = propose("mine", str(tmp_path / "t.csv"), tmp_path, fewest=lambda within: 100)
    said = YAML(typ="safe").load(found.text)["predictions"]
    assert said["columns"] == {"confidence": "Score (%)", "cheap_correct": "ok?", "strong_correct": "Strong Correct"}
    assert said["confidence"] == "percent"


def test_an_id_that_occurs_several_times_in_a_table_of_predictions_is_a_group(tmp_path: Path) -> None:
    rows = [f"{i // 2},{0.5 + i % 50 / 100},{int(i % 5 > 0)}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["id,confidence,correct", *rows]))
    found = propose("mine", str(tmp_path / "t.csv"), tmp_path, fewest=lambda within: 100)
    columns = YAML(typ="safe").load(found.text)["predictions"]["columns"]
    assert columns == {"cheap_correct": "correct", "group": "id"}


@pytest.mark.parametrize(("header", "shown"), [('"the\nmail"', "{the mail}"), ("body:json", "{body:json:json}")])
def test_names_that_no_braces_hold_as_they_stand(tmp_path: Path, header: str, shown: str) -> None:
    config, _ = proposed(tmp_path, f"{header},label", "mail number #,spam", "mail number #,work")
    assert config["prompt"]["user"] == shown
