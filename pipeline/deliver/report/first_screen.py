"""FirstScreen: the lines a product owner acts on, each short, with its number, interval and n."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.task import TaskConfig
from pipeline.decide.advice.number_text import MINUS, limit, points, roughly
from pipeline.decide.advice.volume_cost import volume_cost
from pipeline.deliver.report import formatting as f
from pipeline.deliver.report.records import Recommendation

EXAMPLE_VOLUME = 1_000_000
"""Requests that the money line speaks of where the config names no volume."""


def first_screen(report: Mapping[str, Any], config: TaskConfig, advice: Recommendation) -> dict[str, Any]:
    """Headline, bars, money, outcome and the weakest group: numbers from the report, laid out as the page shows them."""
    human = report["models"]["strong"]["human"]
    other = "people" if human else "the strong model"
    return {
        "headline": _headline(report, other),
        "bars": _bars(report, human),
        "money": _money(report, config, advice),
        "outcome": _outcome(report, other),
        "against": _against(report, advice),
        "totals": None if advice.totals is None else {k: e.to_json() for k, e in advice.totals.items()},
        "weakest": _weakest(report),
    }


def _headline(report: Mapping[str, Any], other: str) -> list[str]:
    verdict = report["verdict"]
    code, threshold, calibrated = verdict["code"], verdict["threshold"], verdict["calibrated_threshold"]
    if code == "check_data":
        return ["Check the data first.", f"Until then send everything to {other}."]
    if code == "uncertified":
        more = verdict["labels_needed"]
        help_ = f" About {roughly(more)} more labeled rows would probably change that." if more else ""
        return [f"Keep sending everything to {other}.", f"No threshold passed the test.{help_}"]
    if code == "strong_only":
        return [f"Send everything to {other}.", "Asking the cheap model first does not pay here."]
    if code == "cheap_only":
        return ["Keep every answer of the cheap model.", "Escalate only what comes without a confidence."]
    known = report["trust"]["calibrator"]
    calibrates = known["kind"] != "none" and calibrated is not None
    right = "right" if report["failures"]["gold"] else f"those of {other}"
    first = (
        f"Keep answers that are at least {f.share(calibrated, 0)} likely to be {right}."
        if calibrates and 0.005 < calibrated < 0.995
        else f"Keep answers with a confidence of {f.threshold(threshold)} or more."
    )
    rate = advice_rate(report)
    return [first, f"Send the rest to {other}{'' if rate is None else f': {f.share(rate)} of requests'}."]


def advice_rate(report: Mapping[str, Any]) -> float | None:
    """Share escalated, as the card has it."""
    card = next(c for c in report["cards"] if c["key"] == "escalation")
    value: float | None = card["estimate"]["value"]
    return value


def _bars(report: Mapping[str, Any], human: bool) -> list[dict[str, Any]]:
    """Cheap alone, cascade, strong alone: accuracy (or agreement) and cost on the same rows."""
    ends, cards = report["decide"]["ends"], {c["key"]: c for c in report["cards"]}
    agreement = cards["quality"]["name"] == "agreement"
    unknown = {"value": None, "lower": None, "upper": None, "level": report["intervals"]["level"], "n": 0, "split": ""}
    bars = [{"name": "cheap", "quality": cards["quality"]["cheap"], "cost": ends["cheap_only"]["usd_per_1000"]}]
    if report["verdict"]["threshold"] is not None:
        bars.append({"name": "cascade", "quality": cards["quality"]["estimate"], "cost": cards["cost"]["estimate"]})
    strong = {**unknown, "value": 1.0} if agreement else ends["strong_only"]["accuracy"]
    bars.append(
        {"name": "people" if human else "strong", "quality": strong, "cost": ends["strong_only"]["usd_per_1000"]}
    )
    most = max((b["cost"]["value"] or 0.0 for b in bars), default=0.0)

    def share(dollars: float | None) -> float | None:
        return None if dollars is None else dollars / most if most else 0.0  # nothing costs anything

    return [{**b, "cost_share": share(b["cost"]["value"])} for b in bars]


def _money(report: Mapping[str, Any], config: TaskConfig, advice: Recommendation) -> dict[str, Any] | None:
    """Dollars for a month's requests, or for a million; and the escalation at which the cascade stops paying."""
    ends, card = report["decide"]["ends"], next(c for c in report["cards"] if c["key"] == "cost")
    cheap, strong = ends["cheap_only"]["usd_per_1000"]["value"], ends["strong_only"]["usd_per_1000"]["value"]
    mine = card["estimate"]["value"]
    if mine is None or strong is None:
        return None
    requests = EXAMPLE_VOLUME if config.volume is None else config.volume.requests_per_month
    told = {"requests": float(requests), "monthly": config.volume is not None}
    return told | volume_cost(requests, mine, cheap, strong, advice.caching)


def _outcome(report: Mapping[str, Any], other: str) -> dict[str, Any] | None:
    """The figure of the promise beside the promise, or the difference where there is no promise."""
    outcome, difference = report["verdict"]["outcome"], report["verdict"]["difference"]
    if outcome is None:
        if difference is None or difference["value"] is None:
            return None
        return {
            "figure": difference,
            "unit": "points",
            "what": f"against {other}",
            "promised": "nothing is promised",
            "state": "none",
            "ends": None,
        }
    bound, kind = outcome["bound"], outcome["kind"]
    what, promised, unit = {
        "match_strong": (f"against {other}", f"promised: no worse than {MINUS}{points(-bound)}", "points"),
        "agree_with_strong": (f"of answers are those of {other}", f"promised: at least {limit(bound)}", "share"),
        "accepted_accuracy": ("of kept answers are right", f"promised: at least {limit(bound)}", "share"),
        "system_accuracy": ("of all answers are right", f"promised: at least {limit(bound)}", "share"),
        "budget": (f"of requests go to {other}", f"promised: at most {limit(bound)}", "share"),
    }[kind]
    state = "beyond" if outcome["broken"] else "reaches" if outcome["qualified"] else "inside"
    return {"figure": outcome["figure"], "unit": unit, "what": what, "promised": promised, "state": state}


def _against(report: Mapping[str, Any], advice: Recommendation) -> dict[str, Any] | None:
    """Accuracy of the cascade minus the strong side's, on the rows and with the weights of the bars; None where unknown."""
    gold = report["failures"]["gold"]
    found = advice.mix_difference if report["decide"]["reweighted"] else advice.difference
    return None if found is None or found.value is None or not gold else found.to_json()


def _weakest(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The label or segment that falls furthest behind the strong model; rows enough to say so come first."""
    failures = report["failures"]
    found: list[tuple[bool, float, str, dict[str, Any]]] = []
    if not failures["gold"] or report["verdict"]["threshold"] is None or report["decide"]["human"]:
        return None
    for kind in ("labels", "segments"):
        rows = [] if failures[kind] is None else failures[kind]["rows"]
        found += [
            ("few" in row["flags"], row["difference"]["value"], kind.removesuffix("s"), row)
            for row in rows
            if row["difference"]["value"] is not None
        ]
    if not found:
        return None
    few, behind, kind, row = min(found, key=lambda entry: entry[:2])
    return {
        "kind": kind,
        "name": row["name"],
        "n": row["n"],
        "few": few,
        "cascade": row["cascade_accuracy"],
        "strong": row["strong_accuracy"],
        "difference": row["difference"],
        "beyond": "margin" in row["flags"],
        "behind": behind < 0,
    }
