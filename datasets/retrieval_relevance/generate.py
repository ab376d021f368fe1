"""Invented queries with passages to judge. ``python datasets/retrieval_relevance/generate.py`` writes examples.jsonl.

A query asks one thing (an aspect) about one object: "bad smell from fridge". Its 20 to 36 passages, as a first-stage search
would bring them, answer that, or another thing about the same object, or the same thing about another object, or only use
the same words; the label says whether a person who typed the query would call the passage an answer. Who wrote a passage,
where, when and about which make comes from an open vocabulary of coined names. Every query is one independent draw and
its passages belong together (``query_id``). How often each kind of passage comes is in the constants below.
"""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from draws import EVALUATION_SEED, TRAIN_SEED_OFFSET, Row, distinct, normalise, write
from wording import chosen, firm, lines, model, read_bank, reworded, surname, town, typed

LABELS = ("yes", "no")
HERE = Path(__file__).resolve().parent
EVALUATION_QUERIES = 260

PASSAGES = (20, 36)  # of a query, from and to, equally likely
ANSWERS = (0, 3, 5, 7, 9, 11, 13, 15)  # how many of them answer it, equally likely
MISSES = {  # kinds of passages that do not answer, by weight
    "same_object": 0.34,  # another thing about the object asked for
    "same_aspect": 0.3,  # the thing asked for, about another object
    "same_words": 0.14,  # object and words of the query, no answer
    "general": 0.1,  # half an answer: true of the whole kind of thing
    "elsewhere": 0.12,  # another field altogether
}
FRAMED = 0.5  # share of passages that say who tells it, where or when
GENERAL_IS_YES = 0.4
LABEL_NOISE = 0.025
CONTEXT, LOWER, TYPOS, QUESTION_MARK = 0.35, 0.4, 0.08, 0.12  # shares of queries with each

FIELDS: dict[str, dict[str, Any]] = {
    name: entry
    for file in ("home", "office", "away")
    for name, entry in read_bank(HERE / "bank" / f"{file}.toml").items()
}
OBJECTS = {name: [tuple(names.split("=")) for names in lines(entry["objects"])] for name, entry in FIELDS.items()}
ASPECTS = {
    name: {aspect: part for aspect, part in entry.items() if isinstance(part, dict)} for name, entry in FIELDS.items()
}
PARTS = ("query", "answer", "mention", "general")


def sentences() -> list[str]:
    """Every distinct sentence and query of the bank."""
    blocks = [part[key] for aspects in ASPECTS.values() for part in aspects.values() for key in PARTS]
    return list(dict.fromkeys(line for block in blocks for line in lines(block)))


def name_in(text: str, name: str, rng: random.Random) -> str:
    """The object's name in place of {o}, with the article and the capital that it needs."""
    text = text.replace("{o}", name).replace("{city}", town(rng))
    text = re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
    return text[:1].upper() + text[1:]


class Topic:
    """One object of one field and what can be said about it."""

    def __init__(self, rng: random.Random, field: str, names: tuple[str, ...]) -> None:
        self.rng, self.field, self.names = rng, field, names

    def say(self, part: str, aspect: str, count: int = 1) -> list[str]:
        """``count`` different sentences of a part of the bank, the object under one of its names."""
        options = lines(ASPECTS[self.field][aspect][part])
        picked = self.rng.sample(options, min(count, len(options)))
        return [
            reworded(self.rng, name_in(text, self.rng.choice((self.names[0], *self.names)), self.rng))
            for text in picked
        ]

    def other_aspect(self, aspect: str) -> str:
        return self.rng.choice([other for other in ASPECTS[self.field] if other != aspect])

    def sibling(self) -> "Topic":
        """Another object of the same field."""
        return Topic(
            self.rng, self.field, self.rng.choice([names for names in OBJECTS[self.field] if names != self.names])
        )

    def stranger(self) -> "Topic":
        """An object of another field."""
        field = self.rng.choice([field for field in FIELDS if field != self.field])
        return Topic(self.rng, field, self.rng.choice(OBJECTS[field]))


FRAMES = read_bank(HERE / "bank" / "frames.toml")


def framed(rng: random.Random, text: str) -> str:
    """The passage as it stands somewhere: behind a source, before an aside, or bare."""
    if rng.random() >= FRAMED:
        return text
    where = rng.choices(("before", "after", "both"), (0.45, 0.35, 0.2))[0]
    slots = {
        "name": FIRST_NAMES[rng.randrange(len(FIRST_NAMES))], "surname": surname(rng), "city": town(rng), "firm": firm(rng),
        "model": model(rng), "n": rng.randrange(3, 90), "year": rng.randrange(1996, 2026), "amount": f"{rng.randrange(4, 300)} euros",
    }  # fmt: skip

    def said(part: str) -> str:
        return chosen(rng, rng.choice(lines(FRAMES[part]))).format(**slots)

    if where != "after":
        text = f"{said('before')} {text}"
    return text if where == "before" else f"{text} {said('after')}"


FIRST_NAMES = lines(
    "Anna|Ben|Carla|David|Eva|Farid|Grace|Henrik|Ines|Jonas|Karin|Leo|Maria|Nils|Olga|Pablo|Rosa|Sam|Tina|Uwe|Vera"
)


def query(topic: Topic, aspect: str) -> str:
    """What a person types: key words or a question, some in a hurry, some with a circumstance that changes nothing."""
    rng = topic.rng
    (text,) = topic.say("query", aspect)
    if rng.random() < CONTEXT:
        text += " " + rng.choice(lines(FIELDS[topic.field]["context"])).replace("{city}", town(rng))
    if rng.random() < QUESTION_MARK:
        text += "?"
    return typed(rng, text.lower() if rng.random() < LOWER else text, TYPOS)


def answering(topic: Topic, aspect: str) -> str:
    """A passage that answers, alone or beside another matter."""
    rng = topic.rng
    parts = topic.say("answer", aspect, rng.choice((1, 1, 2)))
    if rng.random() < 0.4:
        parts.insert(rng.choice((0, len(parts))), *topic.say("answer", topic.other_aspect(aspect)))
    if rng.random() < 0.2:
        parts += topic.say("general", aspect)
    return framed(rng, " ".join(parts))


def missing(topic: Topic, aspect: str, kind: str) -> str:
    """A passage of a kind that does not answer, or only half."""
    rng = topic.rng
    if kind == "same_object":
        other = topic.other_aspect(aspect)
        parts = topic.say("answer", other, rng.choice((1, 2)))
    elif kind == "same_aspect":
        topic = topic.sibling()
        parts = topic.say("answer", aspect, rng.choice((1, 2)))
    elif kind == "same_words":
        parts = topic.say("mention", aspect, rng.choice((1, 2)))
    elif kind == "general":
        parts = topic.say("general", aspect) + topic.say("mention", topic.other_aspect(aspect))
    else:
        topic = topic.stranger()
        parts = topic.say("answer", rng.choice(list(ASPECTS[topic.field])), 2)
    if len(parts) == 1 and rng.random() < 0.5:
        named = [other for other in ASPECTS[topic.field] if other != aspect]
        parts += topic.say("answer", rng.choice(named))
    return framed(rng, " ".join(dict.fromkeys(parts)))


def draw_query(rng: random.Random) -> dict[str, Any]:
    """One independent query with its passages, in random order: {"query", "rows"}; rows carry ``chance_of_yes``."""
    field = rng.choice(list(FIELDS))
    topic = Topic(rng, field, rng.choice(OBJECTS[field]))
    aspect = rng.choice(list(ASPECTS[field]))
    text, total = query(topic, aspect), rng.randint(*PASSAGES)
    found: dict[str, float] = {}
    answers = rng.choice(ANSWERS)
    while len(found) < answers:
        found[answering(topic, aspect)] = 1.0
    while len(found) < total:
        kind = rng.choices(list(MISSES), list(MISSES.values()))[0]
        found.setdefault(missing(topic, aspect, kind), GENERAL_IS_YES if kind == "general" else 0.0)
    passages = rng.sample(list(found.items()), total)
    rows = [
        {"query": text, "passage": passage, "label": judged(rng, chance), "topic": field, "chance_of_yes": chance}
        for passage, chance in passages
    ]
    return {"query": text, "rows": rows}


def judged(rng: random.Random, chance: float) -> str:
    """The label a person gives; sometimes a slip."""
    yes = rng.random() < chance
    return "yes" if yes != (rng.random() < LABEL_NOISE) else "no"


def shown(row: Row) -> Row:
    """A row without what only the generator knows."""
    return {name: value for name, value in row.items() if name != "chance_of_yes"}


def draw(rng: random.Random) -> Row:
    """One independent row: query, passage, label, topic (one passage of a fresh query)."""
    return shown(rng.choice(draw_query(rng)["rows"]))


def key(group: dict[str, Any]) -> str:
    """The text by which two queries are the same."""
    return normalise(group["query"].rstrip("?"))


def grouped(seed: int, exclude: frozenset[str] = frozenset()) -> Iterator[Row]:
    """Rows of distinct queries without end, each with its query_id."""
    for number, group in enumerate(distinct(draw_query, key, random.Random(seed), exclude), 1):
        for row in group["rows"]:
            yield {"query_id": f"q{number:05d}", **shown(row)}


def rows(seed: int, n: int) -> list[Row]:
    """``n`` rows of distinct queries (the last query may lack passages)."""
    source = grouped(seed)
    return [next(source) for _ in range(n)]


def evaluation_rows() -> list[Row]:
    """All passages of the evaluation set's queries."""
    found: list[Row] = []
    for row in grouped(EVALUATION_SEED):
        if int(row["query_id"][1:]) > EVALUATION_QUERIES:
            return found
        found.append(row)
    raise AssertionError("unreachable: grouped never ends")


def train_rows(seed: int, n: int) -> list[Row]:
    """``n`` rows whose queries are not in the evaluation set; ``seed`` is >= 0."""
    evaluation = frozenset(key(row) for row in evaluation_rows())
    source = grouped(TRAIN_SEED_OFFSET + seed, evaluation)
    return [next(source) for _ in range(n)]


def main(path: Path = HERE / "examples.jsonl") -> None:
    """Write the evaluation set."""
    write(path, [{"id": f"pair-{i:05d}", **row} for i, row in enumerate(evaluation_rows(), 1)])


if __name__ == "__main__":
    main()
