"""Invented comments and messages under five labels.

``python datasets/content_moderation/generate.py`` writes examples.jsonl.

Every row is one independent draw: a situation with an opening, details and a closing, or a pair of messages that open
alike and end differently, written on some surface (comment, message, forum, review), with typing errors, and the label
that a moderator gave it. How often each happens is in the constants below.
"""

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from draws import EVALUATION_SEED, TRAIN_SEED_OFFSET, Row, distinct, normalise, write
from wording import Writer, lines, read_bank, typed

LABELS = ("safe", "spam", "scam", "harassment", "self_harm")
HERE = Path(__file__).resolve().parent
EVALUATION_ROWS = 4000

# enriched: a production stream is about nine tenths safe, see the datasheet
SHARES = {"safe": 0.48, "spam": 0.15, "scam": 0.14, "harassment": 0.15, "self_harm": 0.08}
PAIR = 0.22  # share of rows that open like rows of another label
GREY = 0.05  # share of rows that are between two labels: both endings in one message, read strictly with
STRICT = 0.8  # this probability
NEIGHBOURS = {  # whom moderators confuse when they slip
    "safe": ("spam", "harassment", "scam"),
    "spam": ("scam", "safe"),
    "scam": ("spam", "safe"),
    "harassment": ("safe",),
    "self_harm": ("safe",),
}
LABEL_NOISE = 0.02
LOWER, TYPOS, GREETS = 0.18, 0.2, 0.25  # all in lower case, a typing error, a greeting where one is usual
SURFACES = "comment|comment|message|forum"  # where a text stands, unless its situation says so

SHARED = read_bank(HERE / "bank" / "shared.toml")
SITUATIONS: dict[str, dict[str, dict[str, Any]]] = {
    label: read_bank(HERE / "bank" / f"{label}.toml") for label in LABELS
}
NAMES = lines(SHARED["slots"]["name"])
PARTS = ("open", "detail", "close")
FIELDS = {*PARTS, "surface", "least"}  # all other keys of a situation are slots


def sentences() -> list[str]:
    """Every distinct sentence of the bank."""
    found: dict[str, None] = {}
    for part in [*(entry for group in SITUATIONS.values() for entry in group.values()), *SHARED["pair"]]:
        for key in (*PARTS, "first", "second"):
            found.update(dict.fromkeys(lines(part.get(key, ""))))
    return list(found)


def writer(rng: random.Random) -> Writer:
    """A writer whose names, places and figures are drawn."""
    return Writer(rng, {key: rng.choice(lines(values)) for key, values in SHARED["slots"].items()})


def situation(rng: random.Random, label: str) -> tuple[list[str], str]:
    """The sentences of a text of one label, and where it stands."""
    pen, entry = writer(rng), rng.choice(list(SITUATIONS[label].values()))
    for key, values in entry.items():
        if key not in FIELDS:
            pen.slots[key] = rng.choice(lines(values))
    details = lines(entry["detail"])
    chosen = sorted(rng.sample(range(len(details)), max(entry.get("least", 0), rng.choice((0, 1, 1, 2, 2, 3)))))
    parts = [pen.pick(entry["open"])] + [pen.fill(details[i]) for i in chosen]
    if rng.random() < 0.6 or len(parts) == 1:
        parts.append(pen.pick(entry["close"]))
    return parts, rng.choice(lines(entry.get("surface", SURFACES)))


def pair(rng: random.Random) -> tuple[list[str], dict[str, float]]:
    """A message that opens like one of another label; sometimes with both endings. Also the labels' probabilities."""
    entry, pen = rng.choice(SHARED["pair"]), writer(rng)
    mild, strict = lines(entry["labels"])
    opening = pen.pick(entry["open"])
    if rng.random() < GREY / PAIR:
        endings = [pen.pick(entry["first"]), pen.pick(entry["second"])]
        return [opening, *rng.sample(endings, 2)], {strict: STRICT, mild: 1 - STRICT}
    side = rng.choice(("first", "second"))
    count = rng.choice((1, 1, 2))
    endings = [pen.fill(text) for text in rng.sample(lines(entry[side]), count)]
    return [opening, *endings], {mild if side == "first" else strict: 1.0}


def compose(rng: random.Random) -> tuple[Row, dict[str, float]]:
    """One row and the probabilities of its labels before slips; the row's label is drawn from them."""
    if rng.random() < PAIR:
        parts, truth = pair(rng)
        surface = rng.choice(lines(SURFACES))
    else:
        label = rng.choices(LABELS, [SHARES[label] for label in LABELS])[0]
        (parts, surface), truth = situation(rng, label), {label: 1.0}
    text = " ".join(parts)
    text = typed(rng, text.lower() if rng.random() < LOWER else hurried(rng, text, truth), TYPOS)
    if surface in ("message", "forum") and rng.random() < GREETS:
        text = rng.choice(("Hi, ", "Hey ", "Hello all, ", "Hi everyone! ", f"@{rng.choice(NAMES)} ")) + text
    label = rng.choices(list(truth), list(truth.values()))[0]
    if rng.random() < LABEL_NOISE:
        label = rng.choice(NEIGHBOURS[label])
    return {"text": text, "label": label, "surface": surface}, truth


def hurried(rng: random.Random, text: str, truth: dict[str, float]) -> str:
    """Shouting, a missing full stop, a mark or a smile too many; despair is left as it was written."""
    chance = rng.random()
    if "self_harm" in truth:
        return text.rstrip(".") if chance < 0.2 else text
    if chance < 0.06:
        return text.upper()
    if chance < 0.18:
        return text.rstrip(".")
    if chance < 0.26:
        return text.rstrip(".!?") + rng.choice(("!!", "!!!", "...", " :)", " lol"))
    return text


def draw(rng: random.Random) -> Row:
    """One independent row: text, label, surface."""
    return compose(rng)[0]


def key(row: Row) -> str:
    """The text by which two rows are the same."""
    return normalise(row["text"])


def rows(seed: int, n: int) -> list[Row]:
    """``n`` independent draws, none equal to another after normalisation."""
    source = distinct(draw, key, random.Random(seed))
    return [next(source) for _ in range(n)]


def train_rows(seed: int, n: int) -> list[Row]:
    """``n`` independent draws that share no text with the evaluation set; ``seed`` is >= 0."""
    evaluation = frozenset(key(row) for row in rows(EVALUATION_SEED, EVALUATION_ROWS))
    source = distinct(draw, key, random.Random(TRAIN_SEED_OFFSET + seed), evaluation)
    return [next(source) for _ in range(n)]


def main(path: Path = HERE / "examples.jsonl") -> None:
    """Write the evaluation set."""
    evaluation = rows(EVALUATION_SEED, EVALUATION_ROWS)
    write(path, [{"id": f"post-{i:04d}", **row} for i, row in enumerate(evaluation, 1)])


if __name__ == "__main__":
    main()
