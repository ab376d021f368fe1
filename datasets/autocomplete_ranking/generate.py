"""Invented unfinished sentences with candidates.

``python datasets/autocomplete_ranking/generate.py`` writes examples.jsonl.

A row is one independent draw: a lead that tells what is going on, the beginning of a sentence, and four to eight
candidate completions that could all go on from there. One was typed by the (simulated) person. Which one fits is told
by the lead, unless the lead leaves it open or the person surprises us; how often is in the constants below.
"""

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from draws import EVALUATION_SEED, TRAIN_SEED_OFFSET, Row, distinct, normalise, write
from wording import Writer, firm, led, lines, model, read_bank, reworded, surname, town, typed

LETTERS = "ABCDEFGH"
LABELS = tuple(LETTERS)
HERE = Path(__file__).resolve().parent
EVALUATION_ROWS = 3000

CANDIDATES = (4, 4, 5, 5, 6, 6, 7, 8)  # equally likely
OPEN = 0.08  # the lead leaves it open: states are then as usual as USUAL says, the first of a family most
USUAL = (0.55, 0.25, 0.2, 0.15)
SURPRISE = 0.04  # the person typed another of the candidates
SMALL_TALK, TYPOS = 0.3, 0.08
LED = 0.6  # share of leads behind a few words of connection
ENDED = 0.6  # share of the candidates with words behind them that fit any of the family

SURFACES = ("mail", "chat", "search", "note")
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (surface, entry)
    for surface in SURFACES
    for name, entry in read_bank(HERE / "bank" / f"{surface}.toml").items()
}
STATES = {
    name: {state: part for state, part in entry.items() if isinstance(part, dict)}
    for name, (_, entry) in FAMILIES.items()
}
SHARED = read_bank(HERE / "bank" / "shared.toml")


def sentences() -> list[str]:
    """Every distinct line of the bank: leads, stems, completions, small talk."""
    found: dict[str, None] = {}
    for _, entry in FAMILIES.values():
        found.update(dict.fromkeys(lines(entry["stem"]) + lines(entry["neutral"])))
    for states in STATES.values():
        for part in states.values():
            found.update(dict.fromkeys(lines(part["lead"]) + lines(part["completion"])))
    for block in SHARED["small_talk"].values():
        found.update(dict.fromkeys(lines(block)))
    return list(found)


class Line(Writer):
    """One row being written; its names, places and figures come from an open vocabulary and stay the same within it."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(rng, {key: rng.choice(lines(values)) for key, values in SHARED["slots"].items()})
        self.slots |= {
            "city": town(rng), "client": firm(rng), "surname": surname(rng), "model": model(rng), "ticket": rng.randrange(1000, 99999),
            "n": rng.randrange(2, 40), "amount": f"{rng.randrange(4, 400)} euros", "time": f"{rng.randrange(8, 21)}:{rng.choice(('00', '15', '30', '45'))}",
        }  # fmt: skip

    def ended(self, text: str, surface: str) -> str:
        """A candidate, with words behind it that say nothing of which one was meant; its names are its own."""
        if self.rng.random() >= ENDED:
            return text
        tail = Line(self.rng).pick(SHARED["tails"][surface])
        return text + ("" if tail.startswith(",") else " ") + tail


def candidates(pen: Line, family: str, state: str) -> list[str]:
    """The completion that fits ``state`` first, then rivals of the family's other states; all go on from the stem."""
    rng, surface = pen.rng, FAMILIES[family][0]
    total = rng.choice(CANDIDATES)
    others = [part for name, part in STATES[family].items() if name != state]
    pool = dict.fromkeys(pen.fill(line) for part in others for line in lines(part["completion"]))
    right = pen.pick(STATES[family][state]["completion"])
    rivals = [text for text in pool if text != right]
    texts = [right, *rng.sample(rivals, min(len(rivals), total - 1))]
    return list(dict.fromkeys(pen.ended(text, surface) for text in texts))


def compose(rng: random.Random) -> tuple[Row, float]:
    """One row and the probability that the best guess is what the person typed."""
    pen = Line(rng)
    family = rng.choice(list(FAMILIES))
    surface, entry = FAMILIES[family]
    states = list(STATES[family])
    if rng.random() < OPEN:
        weights = USUAL[: len(states)]
        state, lead = rng.choices(states, weights)[0], pen.pick(entry["neutral"])
        certain = weights[0] / sum(weights)
    else:
        state = rng.choice(states)
        lead, certain = pen.pick(STATES[family][state]["lead"]), 1.0
    lead = reworded(rng, lead, 0.8)
    if surface in ("mail", "chat", "note"):
        lead = led(rng, lead, pen.fill(SHARED["leads"]["any"]), LED)
    if rng.random() < SMALL_TALK:
        lead = pen.pick(SHARED["small_talk"][surface]) + " " + lead
    between = " " if surface == "mail" else "\n"
    context = typed(rng, lead + between + pen.pick(entry["stem"]), TYPOS if surface != "search" else 0)
    options = candidates(pen, family, state)
    answer = options[0]
    if rng.random() < SURPRISE:
        answer = rng.choice(options[1:])
    rng.shuffle(options)
    label = LETTERS[options.index(answer)]
    row = {"context": context, "options": options, "label": label, "answer": answer, "surface": surface}
    return row, certain * (1 - SURPRISE)


def draw(rng: random.Random) -> Row:
    """One independent row: context, options, label (the letter of the option), answer (its text), surface."""
    return compose(rng)[0]


def key(row: Row) -> str:
    """The text by which two rows are the same: a context comes once, so it is in one split only."""
    return normalise(row["context"])


def rows(seed: int, n: int) -> list[Row]:
    """``n`` independent draws, none equal to another after normalisation."""
    source = distinct(draw, key, random.Random(seed))
    return [next(source) for _ in range(n)]


def train_rows(seed: int, n: int) -> list[Row]:
    """``n`` independent draws that share no row's text with the evaluation set; ``seed`` is >= 0."""
    evaluation = frozenset(key(row) for row in rows(EVALUATION_SEED, EVALUATION_ROWS))
    source = distinct(draw, key, random.Random(TRAIN_SEED_OFFSET + seed), evaluation)
    return [next(source) for _ in range(n)]


def main(path: Path = HERE / "examples.jsonl") -> None:
    """Write the evaluation set."""
    evaluation = rows(EVALUATION_SEED, EVALUATION_ROWS)
    write(path, [{"id": f"line-{i:04d}", **row} for i, row in enumerate(evaluation, 1)])


if __name__ == "__main__":
    main()
