"""A coded column answers as an array of objects does."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from pipeline.decide.coded_texts import CodedTexts
from pipeline.decide.predictions import Rows
from pipeline.run.predictions import Predictions

PLAIN = np.array(["b", None, "a", "b", "", "é", None, "a", "b"], dtype=object)


def ways(plain):
    arrow = pa.array(plain.tolist(), pa.string())
    yield CodedTexts.of(plain)
    yield CodedTexts.of(arrow)
    yield CodedTexts.of(pa.chunked_array([arrow[:4], arrow[4:]]))
    yield CodedTexts.of(pa.chunked_array([arrow[:4].dictionary_encode(), arrow[4:].dictionary_encode()]))
    yield CodedTexts.of(pd.Series(plain, dtype=object))
    yield CodedTexts.of(pd.Series(plain).astype("category"))
    yield CodedTexts.of(pd.Series(plain, dtype=pd.StringDtype("pyarrow")))


@pytest.mark.parametrize("which", [np.array([8, 1, 1, 2]), PLAIN == "b", np.zeros(9, dtype=bool), slice(2, 7)])
def test_rows_are_taken_and_compared_as_objects_are(which):
    for coded in ways(PLAIN):
        taken, plain = coded[which], PLAIN[which]
        assert taken.tolist() == list(taken) == plain.tolist()
        for text in ("b", "", "not there", None):
            np.testing.assert_array_equal(taken == text, np.array([x == text for x in plain], dtype=bool))
            np.testing.assert_array_equal(taken != text, np.array([x != text for x in plain], dtype=bool))
            assert (text in taken) == (text in plain.tolist())
        np.testing.assert_array_equal(taken.isin(["a", "é", "x"]), [x in ("a", "é", "x") for x in plain])
        np.testing.assert_array_equal(taken.known, [x is not None for x in plain])
        number, names = pd.factorize(plain)
        np.testing.assert_array_equal(taken.factorized()[0], number)
        assert taken.present == names.tolist() == list(taken.texts_at(taken.factorized()[1], 2))
        assert taken.filled("x").tolist() == ["x" if x is None else x for x in plain]
        assert [coded[i] for i in range(9)] == PLAIN.tolist()


def test_columns_of_different_texts_are_compared_row_by_row():
    other = np.array(["b", None, "b", "a", None, "é", "", "z", "b"], dtype=object)
    for mine in ways(PLAIN):
        for its in ways(other):
            np.testing.assert_array_equal(mine == its, [x == y for x, y in zip(PLAIN, other, strict=True)])


def test_distinct_names_are_not_looked_through_and_one_that_is_missing_is_none():
    names = np.array([f"n{i}" for i in range(50)], dtype=object)
    assert CodedTexts.names(pa.array(names.tolist())).tolist() == names.tolist()
    names[7] = None
    assert CodedTexts.names(pd.Series(names)).tolist() == names.tolist()
    assert CodedTexts.none(3).tolist() == [None] * 3
    assert CodedTexts.of(pa.nulls(2)).tolist() == [None, None]


def test_more_rows_than_a_row_group_are_written_as_one_table(tmp_path, monkeypatch):
    from pipeline.run import predictions
    from pipeline.run.directory import PREDICTIONS, Folder

    n = 25
    frame = pd.DataFrame({"example_id": [f"r{i}" for i in range(n)], "confidence": np.arange(n) / n})
    frame.loc[10:, "segment"] = "s"  # all null in the first group
    frame["strong_status"] = pd.Categorical.from_codes([0, -1] * 12 + [0], ["ok"])
    made, read = Predictions.of(frame, {"name": "given"}, []), []
    for size in (4, 10, 1 << 20):
        monkeypatch.setattr(predictions, "GROUP", size)
        folder = Folder(tmp_path / str(size))
        made.write(folder)
        read.append(folder.read_arrow(PREDICTIONS))
    assert read[0].equals(read[1])
    assert read[0].equals(read[2])
    assert read[0]["segment"].to_pylist() == [None] * 10 + ["s"] * 15
    assert read[0]["strong_wanted"].to_pylist() == ["all", None] * 12 + ["all"]
    rows = Rows.from_frame(made.frame)
    assert rows.strong_status.tolist() == (["ok", None] * 12 + ["ok"])
    assert len(rows.take(np.ones(n, dtype=bool))) == n
