"""Invented mails with one of four labels. ``python datasets/email_triage/generate.py`` writes examples.jsonl.

Every mail is one independent draw: a situation from the text bank, its sentences in the author's order, names and
figures that stay the same within a mail, a greeting and a signature that fit the sender, perhaps a quoted or forwarded
mail, perhaps typing errors, and a label that a person gave it. How often each happens is in the constants below.
"""

import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from draws import EVALUATION_SEED, TRAIN_SEED_OFFSET, Row, distinct, normalise, write
from wording import Writer, bare, ended, firm, fitting, led, lines, read_bank, reworded, surname, town, typed

LABELS = ("work", "personal", "spam", "other")
HERE = Path(__file__).resolve().parent
EVALUATION_ROWS = 3000

SHARES = {"work": 0.28, "personal": 0.24, "spam": 0.24, "other": 0.24}  # of the plain mails
FRAME, MIXED, PROMO = 0.16, 0.06, 0.03  # share of mails: foreign quote below, half work half private, advertising
FOLLOWS_REQUEST = 0.82  # a mixed mail is filed by what it asks for, with this probability
PROMO_IS_SPAM = 0.35
LABEL_NOISE = 0.025  # a person slipped: one of the three other labels
MAX_WORDS = 165
LED, ENDED = 0.42, 0.45  # shares of statements with a few words of connection before and behind them

SHARED = read_bank(HERE / "bank" / "shared.toml")
SCENARIOS: dict[str, dict[str, dict[str, str]]] = {
    label: read_bank(HERE / "bank" / f"{label}.toml") for label in LABELS
}
BY_NAME = {name: (label, entry) for label, entries in SCENARIOS.items() for name, entry in entries.items()}
FIELDS = {"voice", "from", "subject", "open", "detail", "close", "asked"}  # all other keys of a situation are slots
VOICES = read_bank(HERE / "bank" / "voices.toml")


def sentences() -> list[str]:
    """Every distinct sentence of the bank that can stand in a body (no subjects, greetings, slots)."""
    found: dict[str, None] = {}
    parts = [entry for entries in SCENARIOS.values() for entry in entries.values()]
    parts += [*SHARED["openings"].values(), SHARED["promo"], SHARED["mixed"], *SHARED["frame"]]
    for part in parts:
        for key in ("open", "detail", "close", "asked", "top", "work", "private", "work_ask", "private_ask"):
            found.update(dict.fromkeys(bare(line) for line in lines(part.get(key, ""))))
    return list(found)


def a_day(rng: random.Random) -> str:
    """A day as people name it: by weekday, by date, or by both."""
    weekday, date = rng.choice(WEEKDAYS), rng.randrange(1, 31)
    suffix = "th" if 10 < date < 14 else {1: "st", 2: "nd", 3: "rd"}.get(date % 10, "th")
    return rng.choice((weekday, f"the {date}{suffix}", f"{weekday} the {date}{suffix}", f"{date} {rng.choice(MONTHS)}"))


WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "September", "October", "November")


class Mail(Writer):
    """One mail being written; names, places and figures stay the same within the mail."""

    def __init__(self, rng: random.Random) -> None:
        names = rng.sample(lines(SHARED["slots"]["name"]), 4)
        super().__init__(rng, dict(zip(("me", "name", "other", "other2"), names, strict=True)))
        self.slots["n"] = rng.choice((3, 4, 6, 8, 12, 14, 17, 20, 35, 48))
        self.slots["ticket"] = str(rng.randrange(1000, 99999))
        for key, values in SHARED["slots"].items():
            if key != "name":
                self.slots[key] = rng.choice(lines(values))
        self.slots["shop"] = rng.choice(lines(BY_NAME["order"][1]["shop"]))
        self.coin()

    def coin(self) -> None:
        """Names and figures from an open vocabulary, so that most of them stand in one mail only."""
        rng = self.rng
        self.slots |= {
            "surname": surname(rng), "four": f"{rng.randrange(10000):04d}", "n": rng.randrange(3, 60),
            "amount": f"{rng.randrange(30, 490) * 10:,} euros", "small": f"{rng.randrange(12, 90)}.{rng.choice((20, 50, 90, 95))} euros",
            "day": a_day(rng), "day2": a_day(rng),
            "tiny": f"{rng.randrange(2, 10)}.{rng.randrange(10, 99)} euros", "time": f"{rng.randrange(9, 20)}:{rng.choice(('00', '10', '15', '20', '30', '45', '50'))}",
            "time2": f"{rng.randrange(8, 18)}:{rng.choice(('00', '05', '15', '30', '40', '45'))}",
        }  # fmt: skip
        for key, made, share in (
            ("client", firm, 0.8),
            ("city", town, 0.7),
            ("seller", firm, 0.6),
            ("shop", firm, 0.5),
        ):
            if rng.random() < share:
                self.slots[key] = made(rng)
        if rng.random() < 0.6:
            self.slots["street"] = (
                f"{surname(rng)} {rng.choice(('Street', 'Road', 'Lane', 'Avenue', 'Square'))} {rng.randrange(1, 140)}"
            )
        if rng.random() < 0.7:
            self.slots["link"] = (
                f"{town(rng).lower()}-{rng.choice(('check', 'refund', 'desk', 'secure', 'prize'))}.example"
            )

    def enter(self, entry: dict[str, str]) -> None:
        """Take over the slot values that belong to a situation."""
        for key, values in entry.items():
            if key not in FIELDS:
                self.slots[key] = self.rng.choice(lines(values)).format(**self.slots)

    def content(self, entry: dict[str, str], most: int = 6) -> tuple[str, list[str], str]:
        """(subject, sentences, the question answered or "") of a situation.

        The opening comes first; details, closing, subject and question are those that fit it, details in the author's
        order. A line marked ``~`` names a cause or a place of which a mail can have one only.
        """
        source = SHARED["openings"][entry["from"]] if "from" in entry else entry
        openings = lines(source["open"])
        opening = self.rng.randrange(len(openings))
        details = fitting(entry["detail"], opening)
        count = min(self.rng.choice((1, 2, 3, 3, 4, 4, 5, 6)), most, len(details))
        chosen = [details[i] for i in sorted(self.rng.sample(range(len(details)), count))]
        rivals = [text for text in chosen if text.startswith("~")]
        chosen = [text for text in chosen if text not in rivals[1:]]
        closings, questions = fitting(entry["close"], opening), fitting(entry.get("asked", ""), opening)
        closing = [self.rng.choice(closings)] if closings and self.rng.random() < 0.85 else []
        question = self.fill(self.rng.choice(questions)) if questions else ""
        subject = self.fill(self.rng.choice(fitting(source["subject"], opening)))
        manner = {"firm": "firm", "polite": "firm", "stranger": "stranger"}.get(entry["voice"], "person")
        leads, tails = self.fill(SHARED["leads"][manner]), self.fill(SHARED["tails"][manner])
        told = [self.fill(text.lstrip("~ ")) for text in [openings[opening], *chosen, *closing]]
        told = [ended(self.rng, reworded(self.rng, text, 0.8), tails, ENDED) for text in told]
        parts = [led(self.rng, text, leads, LED if place else LED / 3) for place, text in enumerate(told)]
        return subject, parts, question

    def paragraphs(self, parts: list[str]) -> str:
        """Sentences joined as people do: one block, or a break before the last or in the middle."""
        if len(parts) < 3 or self.rng.random() < 0.45:
            return " ".join(parts)
        cut = self.rng.choice((1, len(parts) - 1, len(parts) // 2))
        return " ".join(parts[:cut]) + "\n\n" + " ".join(parts[cut:])

    def dress(self, text: str, voice: str) -> str:
        """Greeting and small talk above, signature below, in the manner of the sender."""
        manner = VOICES[voice]
        parts = {
            key: reworded(self.rng, self.pick(manner[key])) if self.rng.random() < manner[rate] else ""
            for key, rate in (("greeting", "greets"), ("smalltalk", "chats"), ("footer", "footers"))
        }
        if parts["smalltalk"]:
            text = parts["smalltalk"] + " " + text
        signature = self.signature(manner) if self.rng.random() < manner["signs"] else ""
        return "\n\n".join(part for part in (parts["greeting"], text, signature, parts["footer"]) if part)

    def signature(self, manner: dict[str, str]) -> str:
        return "\n".join(self.fill(line) for line in self.rng.choice(lines(manner["signature"])).split(" / "))


def plain(mail: Mail, entry: dict[str, str]) -> tuple[str, str, str]:
    """(subject, body, style) of one situation; people sometimes answer and quote what they were asked."""
    mail.enter(entry)
    subject, parts, question = mail.content(entry)
    body = mail.dress(mail.paragraphs(parts), entry["voice"])
    if question and mail.rng.random() < 0.35:
        head = mail.rng.choice(QUOTES).format(**mail.slots)
        return "Re: " + subject, f"{body}\n\n{head}\n> {question}", "reply"
    return subject, body, "plain"


QUOTES = ("On {day2}, {me} wrote:", "{me} wrote:", "-----Original Message-----\nFrom: {me}")
FORWARDS = (
    "-----Original Message-----\nFrom: {sender}\nSubject: {subject}\n\n{text}",
    "---------- Forwarded message\nFrom: {sender}\nSubject: {subject}\n\n{text}",
    "{sender} wrote:\n> {text}",
    "Begin forwarded message: {subject}\n\n{text}",
)


def framed(mail: Mail, frame: dict[str, str]) -> tuple[str, str, str]:
    """A few lines of the sender above a mail of another kind: the sender's lines decide the label."""
    rng = mail.rng
    _, inner = BY_NAME[rng.choice(lines(frame["inner"]))]
    subject = mail.pick(frame["subject"])
    top = mail.dress(reworded(rng, mail.pick(frame["top"])), FRAME_VOICE[frame["label"]])
    below = Mail(rng)
    if frame["label"] == "other":  # the automatic answer repeats what the recipient wrote
        below.slots["name"] = mail.slots["me"]
    below.enter(inner)
    inner_subject, parts, _ = below.content(inner, most=4)
    text = " ".join(parts)
    if inner["voice"] == "firm":
        sender = below.slots["shop"]
    else:
        sender = below.slots["name"]
        text += rng.choice(("", f" {sender}", f"\n{sender}"))
    below_line = rng.choice(FORWARDS).format(sender=sender, subject=inner_subject, text=text)
    return subject, f"{top}\n\n{below_line}", "forwarded"


FRAME_VOICE = {"work": "colleague", "personal": "friend", "spam": "polite", "other": "firm"}


def mixed(mail: Mail) -> tuple[str, str, str, str]:
    """Half work, half private; returns (subject, body, style, what it asks for)."""
    rng, part = mail.rng, SHARED["mixed"]
    work, private = reworded(rng, mail.pick(part["work"])), reworded(rng, mail.pick(part["private"]))
    asks = rng.choice(("work", "personal"))
    parts = rng.sample([work, private], 2)
    parts.append(reworded(rng, mail.pick(part["work_ask" if asks == "work" else "private_ask"])))
    body = mail.dress(mail.paragraphs(parts), rng.choice(("colleague", "friend")))
    return mail.pick(part["subject"]), body, "plain", asks


def manner_of_typing(rng: random.Random, voice: str, subject: str, body: str) -> tuple[str, str]:
    """Lower case on the phone, capitals of the barker, missing full stops, typing errors."""
    chance = rng.random()
    if voice == "friend" and chance < 0.12:
        subject, body = subject.lower(), body.lower()
    elif voice == "stranger" and chance < 0.18:
        subject = subject.upper()
        body = body.upper() if chance < 0.05 else body.replace(".", "!")
    rate = {"friend": 0.3, "colleague": 0.2, "stranger": 0.35, "polite": 0.15, "firm": 0.02}[voice]
    return typed(rng, subject, rate / 4), typed(rng, body, rate)


def compose(rng: random.Random) -> tuple[Row, dict[str, float]]:
    """One mail and the probabilities of its labels before slips; the row's label is drawn from them."""
    mail = Mail(rng)
    chance = rng.random()
    if chance < FRAME:
        frame = rng.choice(SHARED["frame"])
        subject, body, style = framed(mail, frame)
        truth = {frame["label"]: 1.0}
        voice = FRAME_VOICE[frame["label"]]
    elif chance < FRAME + MIXED:
        subject, body, style, asks = mixed(mail)
        truth = {asks: FOLLOWS_REQUEST, {"work": "personal", "personal": "work"}[asks]: 1 - FOLLOWS_REQUEST}
        voice = "friend"
    elif chance < FRAME + MIXED + PROMO:
        entry = {**SHARED["promo"], "voice": "firm"}
        subject, body, style = plain(mail, entry)
        truth, voice = {"other": 1 - PROMO_IS_SPAM, "spam": PROMO_IS_SPAM}, "firm"
    else:
        label = rng.choices(LABELS, [SHARES[label] for label in LABELS])[0]
        entry = rng.choice(list(SCENARIOS[label].values()))
        subject, body, style = plain(mail, entry)
        truth, voice = {label: 1.0}, entry["voice"]
    subject, body = manner_of_typing(rng, voice, subject, body)
    label = rng.choices(list(truth), list(truth.values()))[0]
    if rng.random() < LABEL_NOISE:
        label = rng.choice([other for other in LABELS if other != label])
    return {"subject": subject, "body": body, "label": label, "style": style}, truth


def draw(rng: random.Random) -> Row:
    """One independent row: subject, body, label, style. Mails that are too long are drawn again."""
    while True:
        row, _ = compose(rng)
        if len(row["body"].split()) <= MAX_WORDS:
            return row


def key(row: Row) -> str:
    """The text by which two rows are the same."""
    return normalise(row["subject"] + "\n" + row["body"])


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
    write(path, [{"id": f"mail-{i:04d}", **row} for i, row in enumerate(evaluation, 1)])


if __name__ == "__main__":
    main()
