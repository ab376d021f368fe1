"""Invented comments and messages under five labels.

``python datasets/content_moderation/generate.py`` writes examples.jsonl.

Every row is one independent draw: a post about one thing in one situation, or one of a pair of posts that open alike and
go on differently, written on some surface (comment, message, forum, review), with names and figures of its own, typing
errors, and the label that a moderator gave it. How often each happens is in the constants below.
"""

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from draws import EVALUATION_SEED, TRAIN_SEED_OFFSET, Row, distinct, normalise, write
from wording import Writer, chosen, firm, lines, read_bank, reworded, surname, town, typed

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
FIELDS = {"post", "surface"}  # all other keys of a situation are slots
NESTED = 3  # slots may hold slots, so many deep
REWORDED = 0.35  # of the phrases that can be said in another way


def sentences() -> list[str]:
    """Every distinct line of the bank: whole posts, and the parts of pairs."""
    found: dict[str, None] = {}
    for part in [*(entry for group in SITUATIONS.values() for entry in group.values()), *SHARED["pair"]]:
        for key in ("post", "open", "first", "second"):
            found.update(dict.fromkeys(lines(part.get(key, ""))))
    return list(found)


class Post(Writer):
    """One post being written; its names, places and figures come from an open vocabulary and stay the same within it."""

    def __init__(self, rng: random.Random, own: dict[str, str] | None = None) -> None:
        first, second = rng.sample(NAMES, 2)
        super().__init__(rng, {key: rng.choice(lines(values)) for key, values in SHARED["slots"].items()})
        self.slots |= {
            "name": first, "name2": second, "surname": surname(rng), "city": town(rng), "brand": firm(rng),
            "n": rng.randrange(3, 99), "n2": rng.randrange(2, 13), "year": rng.randrange(1998, 2026),
            "amount": f"{rng.randrange(20, 600) * 10:,} euros", "small": f"{rng.randrange(5, 95)} euros",
            "handle": f"@{rng.choice(NAMES).lower()}_{town(rng).lower()}{rng.randrange(100)}",
            "link": f"{town(rng).lower()}-{rng.choice(('deals', 'verify', 'coin', 'prize', 'shop', 'blog', 'cash'))}.example",
        }  # fmt: skip
        self.slots |= {key: rng.choice(lines(values)) for key, values in (own or {}).items()}

    def write(self, line: str) -> str:
        """A line of the bank as this post says it."""
        text = line
        for _ in range(NESTED):
            text = chosen(self.rng, text).format(**self.slots)
        return reworded(self.rng, text[:1].upper() + text[1:], REWORDED)


def situation(rng: random.Random, label: str) -> tuple[str, str]:
    """A post of one label, and where it stands."""
    entry = rng.choice(list(SITUATIONS[label].values()))
    post = Post(rng, {key: values for key, values in entry.items() if key not in FIELDS})
    return post.write(rng.choice(lines(entry["post"]))), rng.choice(lines(entry.get("surface", SURFACES)))


def pair(rng: random.Random) -> tuple[str, dict[str, float]]:
    """A post that opens like one of another label; sometimes with both continuations. Also the labels' probabilities."""
    entry, post = rng.choice(SHARED["pair"]), Post(rng)
    mild, strict = lines(entry["labels"])
    opening = post.write(rng.choice(lines(entry["open"])))
    if rng.random() < GREY / PAIR:
        both = [post.write(rng.choice(lines(entry[side]))) for side in ("first", "second")]
        return " ".join([opening, *rng.sample(both, 2)]), {strict: STRICT, mild: 1 - STRICT}
    side = rng.choice(("first", "second"))
    return f"{opening} {post.write(rng.choice(lines(entry[side])))}", {mild if side == "first" else strict: 1.0}


def compose(rng: random.Random) -> tuple[Row, dict[str, float]]:
    """One row and the probabilities of its labels before slips; the row's label is drawn from them."""
    if rng.random() < PAIR:
        text, truth = pair(rng)
        surface = rng.choice(lines(SURFACES))
    else:
        label = rng.choices(LABELS, [SHARES[label] for label in LABELS])[0]
        (text, surface), truth = situation(rng, label), {label: 1.0}
    text = typed(rng, text.lower() if rng.random() < LOWER else hurried(rng, text, truth), TYPOS)
    greeted = text.lower().startswith(("hi", "hello", "hey", "dear", "my dear", "happy birthday", "@"))
    if surface in ("message", "forum") and not greeted and rng.random() < GREETS:
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
