"""How the generators of the bundled datasets write: text banks with slots, and typing errors. Standard library only.

A bank is a TOML file whose entries are blocks of alternatives, one a line; ``{slot}`` is filled with a value that stays
the same within a row.
"""

import random
import re
import tomllib
from pathlib import Path
from typing import Any

SLOT = re.compile(r"\{\w+\}")


def read_bank(path: Path) -> dict[str, Any]:
    """A TOML bank file as nested dicts and strings."""
    with path.open("rb") as handle:
        return tomllib.load(handle)


def lines(block: str) -> list[str]:
    """The alternatives of a bank entry: one a line, or separated by bars on a single line."""
    return [line.strip() for line in (block.splitlines() if "\n" in block else block.split("|")) if line.strip()]


def fitting(block: str, opening: int) -> list[str]:
    """The lines that go with an opening (counted from 0): "@13 text" goes with the first and third, "text" with all."""
    found = []
    for line in lines(block):
        tags, _, text = line[1:].partition(" ") if line.startswith("@") else ("", "", line)
        if not tags or str(opening + 1) in tags:
            found.append("~ " + text if tags.endswith("~") else text)
    return found


def bare(line: str) -> str:
    """A bank line without its marks."""
    return re.sub(r"^(@\d*)?~? ?", "", line)


def typed(rng: random.Random, text: str, rate: float) -> str:
    """Typing errors: with ``rate`` one or two slips, a letter lost, doubled or swapped inside a word."""
    if rng.random() >= rate:
        return text
    for _ in range(rng.choice((1, 1, 2))):
        spots = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 2].isalpha()]
        if not spots:
            return text
        i = rng.choice(spots)
        lost, doubled = text[:i] + text[i + 1 :], text[: i + 1] + text[i:]
        swapped = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
        text = rng.choice((lost, doubled, swapped))
    return text


class Writer:
    """One row being written: a random source and the slot values that stay the same within the row."""

    def __init__(self, rng: random.Random, slots: dict[str, Any] | None = None) -> None:
        self.rng = rng
        self.slots: dict[str, Any] = dict(slots or {})

    def pick(self, block: str) -> str:
        """One of a block's lines, filled in."""
        return self.fill(self.rng.choice(lines(block)))

    def fill(self, text: str) -> str:
        """Slots filled in; a value that opens the line gets a capital, what the author wrote small stays small."""
        capital = text.startswith("{")
        for _ in range(2):  # a slot's value may hold a slot
            text = text.format(**self.slots)
        return text[:1].upper() + text[1:] if capital else text


# --- variety: inline alternatives, other words for the same thing, names that nobody has heard ---

CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")


def chosen(rng: random.Random, text: str) -> str:
    """Inline alternatives decided: "[a|b|]" becomes one of them, the empty one included; they may be nested."""
    while found := CHOICE.search(text):
        text = text[: found.start()] + rng.choice(found[1].split("|")) + text[found.end() :]
    return re.sub(r" +([,.!?;:])", r"\1", re.sub(r"  +", " ", text)).strip()


_SAME = {  # phrase -> what may stand in its place without changing what is meant
    "a little": "a bit|slightly", "a lot of": "plenty of|lots of", "all the time": "constantly|the whole time",
    "anybody": "anyone", "at once": "right away|immediately", "at the moment": "right now|just now",
    "before long": "soon", "big": "large|huge", "by mistake": "in error|accidentally", "cannot": "can't",
    "children": "kids|little ones", "completely": "entirely|totally", "could you": "can you|would you", "difficult": "hard|tricky",
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "enclosed": "attached", "everybody": "everyone",
    "exactly": "precisely", "finally": "at last|in the end", "for example": "for instance", "great": "wonderful|brilliant|lovely",
    "happy": "glad|pleased|delighted", "have not": "haven't", "I think": "I believe|I guess|I would say", "is not": "isn't",
    "last night": "yesterday evening|late last night|the night before last", "last week": "the week before last|last month|the other day|recently",
    "maybe": "perhaps|possibly", "nearly": "almost|just about", "next week": "the week after next|in a week's time|in ten days",
    "nobody": "no one|not a soul", "often": "frequently|regularly", "perhaps": "maybe|possibly", "photo": "picture",
    "photos": "pictures", "problem": "trouble|issue|difficulty", "quick": "short|brief", "quite": "rather|fairly",
    "really": "truly|honestly", "small": "little|tiny", "somebody": "someone", "soon": "shortly|before long",
    "started": "began", "such a": "quite a", "the whole": "the entire|all the", "this afternoon": "earlier this afternoon|after lunch",
    "this morning": "earlier today|first thing today|before nine today", "this week": "in the last few days|these days",
    "this weekend": "on Saturday or Sunday|over the weekend", "tonight": "this evening|later today", "totally": "completely|utterly",
    "until": "till", "usually": "normally|as a rule|mostly", "very": "really|extremely|ever so", "will not": "won't",
    "wonderful": "lovely|marvellous|splendid", "yesterday": "the day before yesterday", "delivery": "shipment",
    "invoice": "bill", "flat": "apartment", "shop": "store", "Thanks": "Many thanks|Thank you|Thanks so much",
    "Thank you": "Thanks|Many thanks", "Maybe": "Perhaps", "Nobody": "No one", "Everybody": "Everyone", "Somebody": "Someone",
    "Could you": "Can you|Would you",
}  # fmt: skip
_SAME_PATTERN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, _SAME), key=len, reverse=True)) + r")\b(?!['.])")
_SHORT = re.compile(
    r"\b(I am|It is|it is|that is|That is|there is|There is|they are|They are|we are|We are|you are|You are)(?= [a-z])"
)
_ENDINGS = {"am": "'m", "is": "'s", "are": "'re"}
_REASON = re.compile(r"\bbecause (?!of\b)")
_NUMBERS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty"
_COUNTED = re.compile(
    rf"\b({_NUMBERS}) (?=(days|weeks|hours|minutes|months|years|times|people|pages|boxes|points|questions|friends)\b)"
)
_STATEMENT = re.compile(
    r"(The|A|An|We|It|It's|They|He|She|There|There's|My|Our|Their|This|That|That's|You|You're|Your|Nobody|Everybody|Everyone|Some|Most|All"
    r"|No|No one|I|If|Two|Three|Both|Every|Everything|Nothing|Without|With|Only|Just|Several|New|Many|Customers|Members|Payroll|Reception|Current) [^?!]*\.$"
)


def reworded(rng: random.Random, sentence: str, rate: float = 0.6) -> str:
    """The sentence with some of its phrases in other words and its counts changed; what it says of the label stays."""

    def other(found: re.Match[str]) -> str:
        return rng.choice(_SAME[found[1]].split("|")) if rng.random() < rate else found[0]

    def contracted(found: re.Match[str]) -> str:
        who, verb = found[1].split(" ")
        return who + _ENDINGS[verb] if rng.random() < rate else found[0]

    text = _SHORT.sub(contracted, _SAME_PATTERN.sub(other, sentence))
    text = _REASON.sub(lambda found: rng.choice(("because ", "as ", "since ")), text)
    return _COUNTED.sub(lambda found: rng.choice(_NUMBERS.split("|")) + " " if rng.random() < rate else found[0], text)


def led(rng: random.Random, sentence: str, leads: str, rate: float) -> str:
    """A statement behind a few words of connection ("As far as I can see, the ..."); questions and requests stay."""
    if not _STATEMENT.match(sentence) or rng.random() >= rate:
        return sentence
    first = sentence if sentence.startswith(("I ", "I'")) else sentence[0].lower() + sentence[1:]
    return rng.choice(lines(leads)) + " " + first


def ended(rng: random.Random, sentence: str, tails: str, rate: float) -> str:
    """A statement with a few words behind it ("..., says Ruth."); questions, requests and long sentences stay."""
    if not _STATEMENT.match(sentence) or len(sentence.split()) > 16 or rng.random() >= rate:
        return sentence
    tail = rng.choice(lines(tails))
    return sentence[:-1] + ("" if tail.startswith(",") else " ") + tail + "."


_ONSETS = [
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "fr",
    "g",
    "gr",
    "h",
    "k",
    "kr",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "sch",
    "th",
]
_VOWELS = ["a", "e", "i", "o", "u", "ei", "au", "ie", "a", "e", "o"]
_CODAS = ["", "n", "r", "l", "s", "m", "nd", "rt", "ck", "ll", "rn", "ns", "lt"]


def coined(rng: random.Random, syllables: int = 2) -> str:
    """A name that was never heard before, pronounceable: "Brendarck"."""
    parts = [rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS) for _ in range(syllables)]
    return "".join(parts).capitalize()


def joined(rng: random.Random, endings: tuple[str, ...]) -> str:
    """A coined syllable with an ending, no letter three times in a row."""
    while re.search(r"(.)\1\1", found := coined(rng, 1) + rng.choice(endings)):
        pass
    return found


def surname(rng: random.Random) -> str:
    """A family name."""
    return joined(rng, ("er", "mann", "sen", "ley", "field", "ova", "ski", "son", "berg", "ford", "ini", "aux"))


def town(rng: random.Random) -> str:
    """A place that is on no map."""
    return joined(rng, ("burg", "ton", "haven", "stedt", "bridge", "mouth", "dorf", "by", "wick", "minster", "low"))


def firm(rng: random.Random) -> str:
    """The name of a company."""
    return coined(rng, 2)


def model(rng: random.Random) -> str:
    """A product: its maker and a model number."""
    return f"{firm(rng)} {rng.choice('ABCEGKMRSTVX')}{rng.randrange(2, 99) * 10}"
