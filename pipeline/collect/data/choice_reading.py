"""How the labels of kind choose name the right option: by letter, by index or by text, one way for the whole file."""

from __future__ import annotations

from typing import Any

from cascade_threshold import json_text
from cascade_threshold.label_text import fold, label_text
from pipeline.collect.data.table_reader import TableFile, short
from pipeline.collect.request import letters
from pipeline.errors import DataError

LETTER, TEXT, FROM_0, FROM_1 = "letter", "option's text", "index from 0", "index from 1"
READINGS = (LETTER, TEXT, FROM_0, FROM_1)


def options_in(value: Any) -> tuple[str, ...] | str:
    """A row's options, or what is wrong with them."""
    if isinstance(value, str):
        try:
            value = json_text.parse(value)
        except ValueError:
            return f"must hold a JSON list of options, got {value[:80]!r}"
    if isinstance(value, list):
        value = [label_text(o) if isinstance(o, bool | int | float) else o for o in value]
    if not isinstance(value, list) or not all(isinstance(o, str) for o in value) or not 2 <= len(value) <= 26:
        return f"must hold 2 to 26 texts, got {str(value)[:80]}"
    return tuple(value)


def _letter(text: str, options: tuple[str, ...], reading: str) -> str | None:
    """The letter of the option that a label names in one reading, or None."""
    text, names = text.strip(), letters(len(options))
    if reading == LETTER:
        return text.upper() if text.upper() in names else None
    if reading == TEXT:
        for level in ("strip", "loose"):  # as written, else as folded
            same = [
                a for a, o in zip(names, options, strict=True) if fold(o, level).strip() == fold(text, level).strip()
            ]
            if len(same) == 1:
                return str(same[0])
            if same:
                return None
        return None
    try:
        index = int(float(text)) - (reading == FROM_1) if float(text).is_integer() else -1
    except (ValueError, OverflowError):
        return None
    return names[index] if 0 <= index < len(names) else None


class ChoiceReading:
    """The one reading of a file's labels."""

    def __init__(self, reading: str) -> None:
        self.reading = reading

    @classmethod
    def of(cls, table: TableFile, label: str | None, options: str | None) -> ChoiceReading:
        """The reading that fits every row. Raises DataError when two fit and differ; when none does, the one that fits most
        rows, so that the first row against it can be named."""
        if label is None or options is None:
            return cls(LETTER)
        fits = dict.fromkeys(READINGS, 0)
        differ: dict[tuple[str, str], str] = {}
        rows = 0
        for number, row in table.rows([label, options]):
            offered = options_in(row.get(options))
            try:
                text = label_text(row.get(label))
            except (TypeError, ValueError):
                continue  # it is told when the row is read
            if isinstance(offered, str) or text is None or not text.strip():
                continue
            rows += 1
            found = {reading: _letter(text, offered, reading) for reading in READINGS}
            for reading, name in found.items():
                fits[reading] += name is not None
            known = [reading for reading in READINGS if found[reading] is not None]
            for i, one in enumerate(known):
                for other in known[i + 1 :]:
                    if found[one] != found[other]:
                        differ.setdefault(
                            (one, other),
                            f"{table.where(number)}: label {short(text)!r} is {found[one]} as {_an(one)} and {found[other]} as {_an(other)}",
                        )
        whole = [reading for reading in READINGS if fits[reading] == rows]
        for i, one in enumerate(whole):
            for other in whole[i + 1 :]:
                if (one, other) in differ:
                    raise DataError(
                        f"{differ[one, other]}, and both fit every row of the file; give the letter of the right option (A, B, ...)"
                    )
        return cls(whole[0] if whole else max(READINGS, key=lambda reading: fits[reading]))

    def letter(self, text: str, options: tuple[str, ...]) -> str | None:
        """The letter of the option that a label names; None when it names none in this file's reading."""
        return _letter(text, options, self.reading)

    def misfit(self, text: str, options: tuple[str, ...]) -> str:
        """What a label is that names no option, in words."""
        others = [reading for reading in READINGS if _letter(text, options, reading) is not None]
        same = sum(o.strip() == text.strip() for o in options)
        if same > 1:
            return f"the text of {same} options"
        if others:
            return f"{_an(others[0])}, while most rows of the file give {_an(self.reading)}"
        return "neither an option nor one of the letters"


def _an(reading: str) -> str:
    return f"an {reading}" if reading[0] in "aeio" else f"a {reading}"
