"""CompareCommand: `compare A B` finds two decisions, pairs their rows where it can, and says what is different."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade_threshold import policy as policies
from cascade_threshold.policy import Policy
from pipeline import terminal
from pipeline.chosen_tasks import stdout_taken, task_input
from pipeline.config.vocabulary import ROLES
from pipeline.decide import comparison
from pipeline.decide.advice.number_text import bare_usd, p_value
from pipeline.decide.arrays import Flags
from pipeline.decide.comparison import Handled
from pipeline.decide.held_out import LEVEL, level_of
from pipeline.decide.predictions import Rows
from pipeline.decide.redrawn_thresholds import Choice, redrawn
from pipeline.decide.target import Goal
from pipeline.deliver.report import comparison_page
from pipeline.errors import UsageError
from pipeline.run.atomic import write_bytes
from pipeline.run.decision import Decision
from pipeline.run.diff import Asked, differences
from pipeline.run.directory import DECISION, POLICY, PREDICTIONS, RUN, Folder, Run
from pipeline.run.predictions import Predictions

Args = argparse.Namespace
FEWEST = 30
"""Rows in common below which two decisions are compared as of different rows."""
MOST_LISTED = 100
FIGURES = (
    ("accuracy", "system_accuracy", "accuracy"),
    ("escalation_rate", "escalation_rate", "escalation rate"),
    ("usd_per_1000", "usd_per_1000", "cost per 1,000 requests"),
)
"""Each figure with its name in a policy's `expected` and in words."""


@dataclass(frozen=True)
class Side:
    """One of two decisions: its policy, and where it is at hand the folder of its rows."""

    name: str
    policy: Policy
    folder: Path | None

    @property
    def decision(self) -> Decision | None:
        """Its record and artefacts, where they are at hand and in their place."""
        if self.folder is None or not (self.folder / DECISION).is_file() or not (self.folder.parent / RUN).is_file():
            return None
        run = Run(self.folder.parent.parent.parent, self.folder.parent.parent.name, self.folder.parent.name)
        return Decision(run, self.folder.name, remedy=f"python -m pipeline evaluate {self.policy.task}")

    @property
    def rows(self) -> Rows | None:
        """Its rows; None for a policy alone."""
        if self.folder is None or not (self.folder / PREDICTIONS).is_file():
            return None
        return Rows.from_frame(Predictions.read(Folder(self.folder)).frame)

    @property
    def human(self) -> bool:
        """Whether people answer what escalates."""
        side = None if self.decision is None else self.decision.told_of_run().models.get("strong")
        return side is not None and side.human

    @property
    def lists_rows(self) -> bool:
        """Whether its config lets rows be shown."""
        asked = self.asked
        return asked is None or asked.config["report"]["examples"] != "none"

    @property
    def asked(self) -> Asked | None:
        """What the decision was made of; None for a policy alone."""
        return None if self.decision is None else Asked.of(self.decision.told_of_run())


def compare(args: Args) -> dict[str, Any]:
    """Two decisions, second minus first."""
    first, second = (found(args, name) for name in (args.first, args.second))
    result = {
        "schema": "cascade-comparison/1",
        "first": _named(first),
        "second": _named(second),
        "changed": changed(first, second),
        **differing(first, second, args.draws),
    }
    if args.markdown is not None:
        write_bytes(args.markdown, ("\n".join(markdown(result)) + "\n").encode())
    if args.html is not None:
        write_bytes(args.html, comparison_page.render(result).encode("utf-8", "replace"))
    if not args.quiet:
        terminal.say(*lines(result), error=stdout_taken(args))
    return result


def found(args: Args, name: str) -> Side:
    """The decision of a policy file, a run's or decision's folder, or a task. Raises UsageError, DataError."""
    path = Path(name)
    if path.is_dir():
        if (path / RUN).is_file():
            decisions = Decision.all(Run(path.parent.parent, path.parent.name, path.name))
            if not decisions:
                raise UsageError(f"{path}: holds no decision yet; run `evaluate` first")
            path = decisions[0].directory
        if not (path / POLICY).is_file():
            raise UsageError(f"{path}: holds no {POLICY}; name a run's or a decision's folder, a policy.json or a task")
        path = path / POLICY
    elif path.suffix != ".json":
        decision = task_input(args, name).decision
        decision.require_whole(alone=True)
        path = decision.existing(POLICY)
    policy = policies.load(path)
    side = Side(name, policy, _folder(path, policy, args.runs_dir))
    if side.decision is not None:  # rows that were changed since are not compared
        side.decision.require_whole(alone=True)
    return side


def _folder(path: Path, policy: Policy, runs_dir: Path) -> Path | None:
    """Where the rows behind a policy lie: beside it, or in the run's folder of that decision."""
    if (path.parent / PREDICTIONS).is_file():
        return path.parent
    for other in sorted(runs_dir.glob(f"{policy.task}/*/{policy.document.get('decision_id')}/{POLICY}")):
        if policies.load(other).document["digest"] == policy.document["digest"]:
            return other.parent
    return None


def changed(first: Side, second: Side) -> list[str]:
    """What differs in rows, prompt, models and config; of a policy alone, what it tells of them."""
    asked = first.asked, second.asked
    if asked[0] is not None and asked[1] is not None:
        return list(differences(asked[0], asked[1]))
    return list(differences(_told(first.policy), _told(second.policy)))


def _told(policy: Policy) -> Asked:
    document = policy.document
    config = {
        "target": document["certificate"]["target"],
        "signal": document["signal"]["name"],
        "labels": document["labels"],
        "prompt": document["prompt_sha256"],
    }
    models = {role: document[role]["model"] for role in ROLES}
    return Asked(document["dataset_sha256"], None, document["provider"], models, config)


def moved(first: Side, second: Side) -> dict[str, Any]:
    """Both thresholds and their difference, where they cut one confidence; its interval is not known yet."""
    cuts, same_signal = (first.policy.threshold, second.policy.threshold), first.policy.signal == second.policy.signal
    by = None if cuts[0] is None or cuts[1] is None or not same_signal else float(cuts[1]) - float(cuts[0])
    unknown = {"lower": None, "upper": None, "level": None, "draws": None, "certified": None}
    return {"first": cuts[0], "second": cuts[1], "difference": by, "same_signal": same_signal, **unknown}


def drawn_again(
    sides: tuple[Side, Side], rows: tuple[Rows, Rows], places: tuple[Any, Any], draws: int
) -> dict[str, Any]:
    """Interval of the thresholds' difference over the certify rows that both have. Raises UsageError where there is none."""
    both = [of.take(at) for of, at in zip(rows, places, strict=True)]
    certify = (both[0].split == "certify") & (both[1].split == "certify")
    goals = [Goal.of_json(side.policy.document["certificate"]["target"]) for side in sides]
    if certify.sum() < FEWEST or any(of.sampled for of in rows) or not all(goal.promises for goal in goals):
        raise UsageError(
            f"--draws runs the tests anew: it needs two promises, {FEWEST} certify rows in common and every strong answer of them"
        )
    choices = [
        Choice(of.take(certify), whole.of("fit"), goal, side.human)
        for of, whole, goal, side in zip(both, rows, goals, sides, strict=True)
    ]
    return asdict(redrawn(*choices, draws=draws, seed=0))


def differing(first: Side, second: Side, draws: int | None = None) -> dict[str, Any]:
    """The figures of both, their differences, and the rows that changed hands."""
    a, b = first.rows, second.rows
    thresholds, threshold = (first.policy.threshold, second.policy.threshold), moved(first, second)
    if a is None or b is None:
        missing = " and ".join(side.name for side, rows in ((first, a), (second, b)) if rows is None)
        return {"threshold": threshold, **_apart(first, second, f"the rows of {missing} are not at hand")}
    left, right, other = in_common(a, b)
    if len(left) < FEWEST:
        why = f"{len(left):,} rows in common" + (f", {other:,} with the same id and another label" if other else "")
        return {"threshold": threshold, **_apart(first, second, why)}
    if draws and threshold["difference"] is not None:
        threshold |= drawn_again((first, second), (a, b), (left, right), draws)
    mine, its = a.take(left), b.take(right)
    labeled = not (np.isnan(mine.cheap_correct).all() and np.isnan(its.cheap_correct).all())
    if not labeled:  # without right answers, the strong model's stand in for them, as when the decisions were made
        mine, its = mine.graded_by_agreement(), its.graded_by_agreement()
    held = (mine.split == "test") & (its.split == "test")
    which = "test" if held.sum() >= FEWEST else "all"
    mine, its = (mine.take(held), its.take(held)) if which == "test" else (mine, its)
    result = comparison.paired(Handled.by(mine, thresholds[0]), Handled.by(its, thresholds[1]), mine.group, split=which)
    listed = MOST_LISTED if first.lists_rows and second.lists_rows else 0
    hands = {
        name: changed_hands(mine, its, which_rows, result, listed)
        for name, which_rows in (("to_strong", result.to_strong), ("to_cheap", result.to_cheap))
    }
    estimates = {name: asdict(getattr(result, name)) for name, _, _ in FIGURES}
    return {
        "threshold": threshold,
        "rows": "same",
        "why": None,
        "labeled": labeled,
        "level": level_of(which),
        "paired": {
            "rows": len(mine),
            "split": which,
            "in_common": len(left),
            "first": len(a),
            "second": len(b),
            "other_label": other,
        },
        "figures": {
            name: {"first": result.first[name], "second": result.second[name], "difference": estimates[name]}
            for name in estimates
        },
        "p_value": result.p_value,
        "hands": hands,
    }


def changed_hands(mine: Rows, its: Rows, which: Flags, result: comparison.Paired, listed: int) -> dict[str, Any]:
    """Rows that went over, how many of them turned right or wrong by it, and the first `listed` of them."""
    first, second = result.outcomes
    at = np.flatnonzero(which)[:listed]

    def under(of: Handled, rows: Rows, i: int) -> dict[str, Any]:
        answer = rows.strong_answer[i] if of.escalated[i] else rows.cheap_answer[i]
        return {
            "answer": answer,
            "correct": _known(of.correct[i], bool),
            "confidence": _known(rows.confidence[i], float),
        }

    return {
        "rows": int(which.sum()),
        "gained": int((which & (second.correct > first.correct)).sum()),
        "lost": int((which & (second.correct < first.correct)).sum()),
        "listed": [
            {
                "example_id": str(mine.example_id[i]),
                "label": mine.label[i],
                "first": under(first, mine, i),
                "second": under(second, its, i),
            }
            for i in at
        ],
    }


def _known(value: float, kind: type) -> Any:
    return None if np.isnan(value) else kind(value)


def in_common(a: Rows, b: Rows) -> tuple[Any, Any, int]:
    """Places in `a` and in `b` of the rows with one id, and how many such ids have another label in the other."""
    place = {example_id: i for i, example_id in enumerate(b.example_id)}
    pairs = [(i, place[example_id]) for i, example_id in enumerate(a.example_id) if example_id in place]
    same = [(i, j) for i, j in pairs if None in (a.label[i], b.label[j]) or a.label[i] == b.label[j]]
    places = np.array(same, dtype=int).reshape(-1, 2)
    return places[:, 0], places[:, 1], len(pairs) - len(same)


def _apart(first: Side, second: Side, why: str) -> dict[str, Any]:
    """Compared by what each was expected to do on rows of its own."""
    figures, levels = {}, []
    for name, expected, _ in FIGURES:
        a, b = (side.policy.document["expected"][expected] for side in (first, second))
        levels += [side["level"] for side in (a, b) if side["level"] is not None]
        figures[name] = {"first": a["value"], "second": b["value"], "difference": comparison.of_independent(a, b)}
    level = min(levels, default=LEVEL)  # of intervals at two levels together, at least the lower one
    return {
        "rows": "different",
        "why": why,
        "level": level,
        "paired": None,
        "figures": figures,
        "p_value": None,
        "hands": None,
    }


def _named(side: Side) -> dict[str, Any]:
    document = side.policy.document
    return {
        "name": side.name,
        "task": side.policy.task,
        "decision_id": document.get("decision_id"),
        "verdict": side.policy.verdict,
        "target": document["certificate"]["target"],
        "digest": document["digest"],
    }


def _value(name: str, value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "not known"
    plus = "+" if sign else ""
    if name == "usd_per_1000":
        return f"{'-' if value < 0 else plus}${bare_usd(abs(value))}"
    return f"{100 * value:{plus}.1f} " + ("points" if sign else "%")


def _difference(name: str, of: Mapping[str, Any]) -> str:
    if of["lower"] is None or of["value"] is None:
        return _value(name, of["value"], sign=True)
    ends = (_value(name, of[end], sign=True).removesuffix(" points") for end in ("lower", "upper"))
    return f"{_value(name, of['value'], sign=True)} [{', '.join(ends)}]"


def basis(result: Mapping[str, Any]) -> str:
    """On which rows the differences are, in a sentence."""
    if result["rows"] == "different":
        return f"On different rows ({result['why']}): each decision is taken by its own figures, so the intervals are wide."
    of = result["paired"]
    which = (
        "test rows of both"
        if of["split"] == "test"
        else "rows of both, those that thresholds were chosen on among them"
    )
    return f"On the same {of['rows']:,} {which}, paired by example_id ({of['in_common']:,} in common of {of['first']:,} and {of['second']:,})."


def table(result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Figure, first, second, difference with its interval."""
    out = [("verdict", result["first"]["verdict"], result["second"]["verdict"], "")]
    cut = result["threshold"]
    shown = ["none" if cut[k] is None else f"{cut[k]:.12g}" for k in ("first", "second")]
    note = "" if cut["same_signal"] else "another signal: not comparable"
    if cut["difference"] is not None:
        note = f"{cut['difference']:+.4g}"
        if cut["lower"] is not None:
            note += f" [{cut['lower']:+.4g}, {cut['upper']:+.4g}] ({100 * cut['level']:g} %)"
    out.append(("threshold", shown[0], shown[1], note))
    for name, _, words in FIGURES:
        of = result["figures"][name]
        out.append((words, _value(name, of["first"]), _value(name, of["second"]), _difference(name, of["difference"])))
    return out


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What stands below the table."""
    out = [basis(result)]
    if not result.get("labeled", True):
        out.append("There are no right answers: accuracy is agreement with each decision's own strong model.")
    if result["hands"] is not None:
        moved = result["hands"]
        out.append(
            f"Changed hands: {moved['to_strong']['rows']:,} rows to the strong model, {moved['to_cheap']['rows']:,} to the cheap one."
        )
    if (cut := result["threshold"])["draws"]:
        out.append(
            f"Thresholds: the certify rows were drawn {cut['draws']:,} times; both certified in {cut['certified']:,} of them."
        )
    if result["p_value"] is not None:
        out.append(f"Exact McNemar test of no difference in accuracy: {p_value(result['p_value'])}.")
    return [*out, "Changed: " + ("; ".join(result["changed"]) or "nothing that config, rows or models tell")]


def lines(result: Mapping[str, Any]) -> list[str]:
    """The comparison for a terminal."""
    names = [result[k]["name"] for k in ("first", "second")]
    rows = [("", *names, f"difference [{100 * result['level']:g} %]"), *table(result)]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        *("  ".join([*(row[i].ljust(widths[i]) for i in range(3)), row[3]]).rstrip() for row in rows),
        *remarks(result),
    ]


def markdown(result: Mapping[str, Any]) -> list[str]:
    """The comparison for a pull request."""
    names = [_cell(f"{result[k]['name']}") for k in ("first", "second")]
    head = [f"| | {names[0]} | {names[1]} | difference [{100 * result['level']:g} %] |", "|---|---|---|---|"]
    return [
        *head,
        *("| " + " | ".join(_cell(c) for c in row) + " |" for row in table(result)),
        "",
        *(f"- {_cell(r)}" for r in remarks(result)),
    ]


def _cell(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("|", "\\|").replace("<", "&lt;")
