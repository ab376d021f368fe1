"""What each card and table of the page must show, by its place: worked out from report.json without the templates."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from deliver.page import Node, Page, figures

from pipeline.deliver.report import formatting as f

SPLITS = ("fit", "certify", "test")
MEASURES = (
    "brier",
    "nll",
    "auroc",
    "aurc_mean",
    "ece_equal_width_10",
    "ce_l2_debiased_equal_mass_10",
    "corp_brier_miscalibration",
    "corp_brier_discrimination",
    "spiegelhalter_z",
)
NAMED = ("auroc", "aurc_mean", "brier", "corp_brier_miscalibration")
RANKINGS = ("ndcg_at_10", "map", "precision_at_1", "precision_at_3", "top_1", "mrr")
PAIR = re.compile("([−+±]?\\$?[\\d.,]+(?:\u00a0(?:%|ms|s|points))?) (\\[[^\\]]*\\d\\])")

Table = list[list[str]]


def faults(page: Page, data: Mapping[str, Any]) -> list[str]:
    """Where the page shows another number than report.json has for that place, or one for which no place is known."""
    (main,) = page.root.all("main")
    return [*_first_screen(page.root, data), *_tables(main, data), *_prose(main, data), *_breaks(main)]


def _breaks(main: Node) -> Iterator[str]:
    """Sentences and headings in which a line may break between a number and its unit."""
    for tag in ("p", "li", "dd", "caption", "th"):
        for text in (node.but("pre", "code") for node in main.all(tag)):
            yield from (f"may break at {found!r}" for found in re.findall(r".{0,20}\d (?:%|points?\b|ms\b|s\b)", text))


def _differs(where: str, told: str, wanted: str) -> Iterator[str]:
    if figures(told) != figures(wanted):
        yield f"{where}: {told!r} where report.json says {wanted!r}"


def _first_screen(root: Node, data: Mapping[str, Any]) -> Iterator[str]:
    """Rows used, headline, outcome, money, the weakest group, the promise, warnings and the certificate."""
    verdict, first, texts = data["verdict"], data["first"], [_spaced(node.text) for node in root.all("bdi")]
    (facts,) = root.all("ul", class_="facts")
    used = next(fact.text for fact in facts.all("li") if fact.text.startswith("Rows used"))
    yield from _differs("rows used", used, f.count(data["health"]["used"]))
    for text in (*(verdict[k] for k in ("sentence", "promise", "not_said")), *(w["text"] for w in data["warnings"])):
        if text is not None and _spaced(f.plain(text, 900)) not in texts:
            yield f"not on the page: {text!r}"
    (section,) = root.all("section", id="verdict")
    (sentence,) = section.all("p", class_="sentence")
    yield from _differs("headline", sentence.text, " ".join(first["headline"]))
    for key, wanted in _lines(data).items():
        shown = [node.text for node in section.all("p", id=key)]
        if len(shown) != (wanted is not None):
            yield f"{key}: on the page {len(shown)} times"
        elif wanted is not None:
            yield from _differs(key, shown[0], wanted)
    c = verdict["certificate"]
    target = " ".join(map(_flat, c["target"].values()))
    look = f"{c['look']} 1" if c["look"] == 1 else str(c["look"])
    p_value = "" if c["p_value"] is None else f.p_value(c["p_value"])
    delta = "" if c["delta"] is None else f.share(c["delta"])
    found = (verdict["reason"],) if verdict["reason"] and verdict["code"] != "strong_only" else ()
    told = [d.text.replace("(the first look", "1 (the first look") for d in section.all("dd")]
    wanted_lines = (target, delta, c["method"], f"{f.count(c['n'])} {f.count(c['n_accepted'])}", *found, p_value, look)
    for k, (text, want) in enumerate(zip(told, wanted_lines, strict=True)):
        yield from _differs(f"certificate, line {k + 1}", text, want)


def _spaced(text: str) -> str:
    """With one plain space for every run of blanks: where a line may break is no fact of the report."""
    return re.sub("[ \u00a0\n]+", " ", text)


def _flat(value: Any) -> str:
    """A value of the target in words, costs of errors by label and answer among them."""
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_flat(inner)}" for key, inner in value.items())
    return f.short(value) if isinstance(value, int | float) else str(value)


def _lines(data: Mapping[str, Any]) -> dict[str, str | None]:
    """What the lines of the first screen must say, by their ids; None for a line that is not there."""
    first, verdict = data["first"], data["verdict"]
    out: dict[str, str | None] = dict.fromkeys(("outcome", "money", "weakest", "at-mix", "totals"))
    if data["decide"]["reweighted"] and first["against"]:
        out["at-mix"] = f"{f.points(first['against']['value'])} {f.point_bounds(first['against'])}"
    if first["totals"]:
        each = [f.estimate(first["totals"][name], "usd") for name in ("recommended", "strong_only", "cheap_only")]
        out["totals"] = f"{each[0]} 1,000 {each[1]} {each[2]}"
    if first["outcome"]:
        o = first["outcome"]
        value, ends = (
            (f.points(o["figure"]["value"]), f.point_bounds(o["figure"]))
            if o["unit"] == "points"
            else (f.share(o["figure"]["value"]), f.bounds(o["figure"], "share"))
        )
        n, level = f.count(o["figure"]["n"]), f.share(o["figure"]["level"], 0)
        rows = f"{n} {level}" if o["figure"]["split"] == "test" else f"{level} {n}"
        promised = o["promised"].replace(" points", "\u00a0points")
        out["outcome"] = f"{value} {ends} {o['what']} {promised} {rows}"
    if first["money"]:
        m = first["money"]
        text = f"{f.count(m['requests'])} {f.usd(m['cascade'])} "
        if verdict["threshold"] is not None:
            text += f"{f.usd(m['strong'])} {f.usd(abs(m['saved']))} "
            text += "" if m["change"] is None else f.change(m["change"])
            text += f" {f.share(m['break_even'], 0)}" if m["break_even"] else ""
            text += f" {f.usd(m['uncached']['cascade'])} {f.usd(m['uncached']['strong'])}" if m["uncached"] else ""
        out["money"] = text
    if first["weakest"]:
        w = first["weakest"]
        out["weakest"] = (
            f"{f.plain(w['name'], 60)} {f.share(w['cascade']['value'])} {f.share(w['strong']['value'])} {f.count(w['n'])}"
        )
    return out


def _tables(main: Node, data: Mapping[str, Any]) -> Iterator[str]:
    regions = [node for node in main.all("div", role="region") if node.all("table")]
    shown = {node.attributes["aria-label"] or "": node.all("table")[0] for node in regions}
    if len(main.all("table")) != len(shown):
        yield f"{len(main.all('table'))} tables, {len(shown)} with a name of their own"
    drawn = {(node.attributes["id"] or "").removeprefix("figure-") for node in main.all("figure")}
    places = {**beside_figures(data, drawn), **tables(data)}
    if set(shown) != set(places):
        yield f"tables on the page or in report.json, not in both: {sorted(set(shown) ^ set(places))}"
    heads = _heads(data)
    for name in set(shown) & set(places):
        node, wanted = shown[name], places[name]
        (body,) = node.all("tbody")
        rows = [[cell for cell in row.children if isinstance(cell, Node)] for row in body.all("tr")]
        if [len(row) for row in rows] != [len(row) for row in wanted]:
            yield f"{name}: {len(rows)} rows where report.json has {len(wanted)}, or rows of another length"
            continue
        for i, (row, want) in enumerate(zip(rows, wanted, strict=True)):
            for k, (cell, text) in enumerate(zip(row, want, strict=True)):
                yield from _differs(f"{name}, row {i + 1}, column {k + 1}", cell.text, text)
        if name in heads:
            told = [cell.text for cell in node.all("thead")[0].all("th")][1:]
            for k, (cell, text) in enumerate(zip(told, heads[name], strict=True)):
                yield from _differs(f"{name}, head {k + 2}", cell, text)
    sweep = data["decide"]["sweep"]
    if sweep and "Thresholds" in shown:
        size = len(sweep["columns"]["threshold"])
        of = f" of {f.count(sweep['levels_in_sweep'])}" if size < sweep["levels_in_sweep"] else ""
        wanted = f"{f.count(size)}{of}, n = {f.count(sweep['n'])}, {f.share(sweep['level'], 0)}"
        (caption,) = shown["Thresholds"].all("caption")
        yield from _differs("Thresholds, caption", caption.text.split(" intervals (")[0], wanted)


def _heads(data: Mapping[str, Any]) -> dict[str, list[str]]:
    """The heads of columns that are data themselves, after the first."""
    out = {}
    confidence, failures = data["health"].get("confidence"), data["failures"] or {}
    if confidence:
        out["Confidence quantiles"] = [f.share(q["q"], 0) for q in confidence["quantiles"]]
    if (failures.get("confusion") or {}).get("labels"):
        out["Confusion of kept answers"] = [f.plain(label, 30) for label in failures["confusion"]["labels"]]
    return out


def tables(data: Mapping[str, Any]) -> dict[str, Table]:
    """The cells of every table outside the figures, by its name. A cell of words alone is given as no text."""
    return {
        **_bars(data),
        **_strips(data),
        **_decide(data["decide"]),
        **_trust(data["trust"]),
        **_failures(data),
        **_health(data),
        **_rest(data),
    }


def _bars(data: Mapping[str, Any]) -> dict[str, Table]:
    def by_definition(bar: Mapping[str, Any]) -> bool:
        agreement = data["cards"][0]["name"] == "agreement"
        return bar["name"] == "people" or (agreement and bar["name"] == "strong")

    def cell(estimate: Mapping[str, Any], unit: str) -> str:
        return "" if estimate["value"] is None else f.estimate(estimate, unit)

    rows = [
        [
            "",
            f.share(b["quality"]["value"]) if by_definition(b) else cell(b["quality"], "share"),
            cell(b["cost"], "usd"),
        ]
        for b in data["first"]["bars"]
    ]
    return {"Three ways to answer": rows}


def _strips(data: Mapping[str, Any]) -> dict[str, Table]:
    if not data["tokens"]:
        return {}
    out = []
    for found in data["tokens"]["sets"]:
        for reply in found["replies"]:
            answer = [t for t in reply["tokens"] if t["in_answer"]][:1]
            for t in answer:
                others = [a for a in t["alternatives"] if a["token"] != t["token"]]
                told = ", ".join(f"{f.visible(a['token'])} {f.share(a['probability'])}" for a in others)
                out.append(
                    [f.plain(reply["example_id"], 40), "", f.visible(t["token"]), f.share(t["probability"]), told]
                )
    return {"Answer tokens": out}


def _decide(decide: Mapping[str, Any]) -> dict[str, Table]:
    out: dict[str, Table] = {}
    if not decide["sweep"]:
        return out
    columns = decide["sweep"]["columns"]

    def cell(name: str, i: int, unit: str) -> str:
        known = {"value": columns[name][i]} | {e: columns.get(f"{name}_{e}", {i: None})[i] for e in ("lower", "upper")}
        return "" if known["value"] is None else f.estimate(known, unit)

    units = {
        "escalation_rate": "share",
        "system_accuracy": "share",
        "usd_per_1000": "usd",
        "wrong_per_1000": "per_1000",
    }
    if any(v is not None for v in columns["latency_p50_s"]):
        units |= {"latency_p50_s": "seconds", "latency_p95_s": "seconds"}
    out["Thresholds"] = [
        [f.threshold(t), *(cell(name, i, unit) for name, unit in units.items())]
        for i, t in enumerate(columns["threshold"])
    ]
    if decide["usual_rules"]:
        rules = decide["usual_rules"]
        graded, tested = (any(known(r) is not None for r in rules) for known in (_accuracy, lambda r: r["kept"]))
        out["What people usually do"] = [
            [
                "0.85" if r["name"] in ("fixed", "first_token") else "",
                "" if r["threshold"] is None else f.threshold(r["threshold"]),
                f.share(r["escalation_rate"]["value"]),
                *([f.estimate(r["accuracy"]) if _accuracy(r) is not None else ""] * graded),
                *([_in_points(r["difference"])] * graded),
                f.estimate(r["usd_per_1000"], "usd") if r["usd_per_1000"]["value"] is not None else "",
                *(["" if r["p_value"] is None else f.p_value(r["p_value"])] * tested),
            ]
            for r in rules
        ]
    if decide["baselines"]:
        out["Other rules"] = [
            ["", f.share(b["escalation_rate"]), f.share(b["system_accuracy"]), f.usd(b["usd_per_1000"])]
            for b in decide["baselines"]
        ]
    ranking = decide["ranking"]
    if ranking:
        out["Ranking"] = [
            [key.replace("_", " "), f.count(ranking["cheap"][key]["n"])]
            + [
                f.estimate(ranking[who][key] if ranking[who] else None, "number")
                for who in ("cheap", "cascade", "strong")
            ]
            + [f.estimate(ranking["difference"][key] if ranking["difference"] else None, "number")]
            for key in RANKINGS
            if ranking["cheap"].get(key)
        ]
    return out


def _accuracy(rule: Mapping[str, Any]) -> float | None:
    value: float | None = rule["accuracy"]["value"]
    return value


def _in_points(difference: Mapping[str, Any]) -> str:
    if difference["value"] is None:
        return ""
    return f"{f.bare_points(difference['value'])} {f.point_bounds(difference)}"


def beside_figures(data: Mapping[str, Any], drawn: set[str]) -> dict[str, Table]:
    """The tables that stand with a figure and go where it goes."""
    trust, out = data["trust"], {}
    found = trust["reliability"]
    for stage in ("before", "after"):
        if "reliability" in drawn and found[stage]:
            out[f"Reliability {stage} calibration, {found['split']} split"] = [
                [
                    *(f.number(b[f"{end}_edge"], 3) for end in ("lower", "upper")),
                    *(f.count(b[name]) for name in ("n", "n_correct")),
                    f.share(b["mean_confidence"]),
                    _bounded(b, "accuracy"),
                ]
                for b in found[stage]["bin"]
            ]
    if "histogram" in drawn:
        found = trust["histogram"]
        edges = [f.short(edge) for edge in found["edges"]]
        out["Confidence histogram"] = [
            [low, high, *(f.count(found[kind][i]) for kind in ("right", "wrong", "unknown"))]
            for i, (low, high) in enumerate(itertools.pairwise(edges))
        ]
    if "risk" in drawn:
        columns = trust["risk"]["columns"]
        size = len(columns["coverage"])
        rows = [{name: values[i] for name, values in columns.items()} for i in range(0, size, -(-size // 40))]
        out["Risk against coverage"] = [
            [f.threshold(r["threshold"]), f.share(r["coverage"]), _bounded(r, "selective_risk")] for r in rows
        ]
    return out


def _bounded(row: Mapping[str, Any], name: str) -> str:
    return f.estimate({"value": row[name], "lower": row.get(f"{name}_lower"), "upper": row.get(f"{name}_upper")})


def _trust(trust: Mapping[str, Any]) -> dict[str, Table]:
    out: dict[str, Table] = {}
    if trust["optimism"]:
        rows = trust["optimism"]["rows"]
        out["Certify against test"] = [
            ["1,000" if r["unit"] == "usd" else ""]
            + [f.estimate(r[split], r["unit"]) for split in ("certify", "test")]
            + [(f.usd if r["unit"] == "usd" else f.points)(r["difference"])]
            for r in rows
        ] + [["", *(f.count(rows[0][split]["n"]) for split in ("certify", "test")), ""]]
    if trust["signals"]:
        out["Signals"] = [
            [
                s["signal"],
                _give_or_take(s, "aurc", 4),
                "" if s["chosen"] else _give_or_take(s, "difference", 2),
                f.number(s.get("auroc")),
                f.share(s.get("null_rate")),
            ]
            for s in trust["signals"]
        ]
    before, after = ({s: (trust["metrics"].get(k) or {}).get(s) or {} for s in SPLITS} for k in ("before", "after"))
    rows = [(key, s, before[s].get(key), after[s].get(key)) for key in MEASURES for s in SPLITS]
    here = trust["reliability"]["split"] if trust["reliability"] else ""
    if any(any(of.values()) for of in (before, after)):
        named = [(key, before[here].get(key), after[here].get(key)) for key in NAMED] if here else []
        if any(a or b for _, a, b in named):
            out["Measures"] = [
                [
                    "0.5" if key == "auroc" else "",
                    *(f.estimate(e, "number") for e in (a, b)[: 1 + bool(trust["reliability"]["after"])]),
                ]
                for key, a, b in named
                if a or b
            ]
        out["More measures"] = [
            [key.replace("_", " "), "", f.count((a or b)["n"]), f.estimate(a, "number"), f.estimate(b, "number")]
            for key, split, a, b in rows
            if (a or b) and not (split == here and key in NAMED)
        ]
        if trust["selection"]:
            out["Calibrators"] = [["", f.number(s["cv_nll"], 5)] for s in trust["selection"]]
    return out


def _give_or_take(signal: Mapping[str, Any], name: str, digits: int) -> str:
    error = signal.get(f"{name}_se")
    return f.number(signal.get(name), digits) + ("" if error is None else f" ± {f.number(error, 2)}")


def _failures(data: Mapping[str, Any]) -> dict[str, Table]:
    found, out = data["failures"], {}
    if not found or not found["gold"]:
        return {}
    human, kept = data["decide"]["human"], data["verdict"]["threshold"] is not None
    for kind in ("label", "segment"):
        if found[f"{kind}s"]:
            out[f"Results by {kind}"] = [
                [f.plain(r["name"], 40) + (f" {f.share(r['floor'])}" if "floor" in r["flags"] else ""), f.count(r["n"])]
                + [f.estimate(r["cheap_accuracy"]), "" if human else f.estimate(r["strong_accuracy"])]
                + (
                    [f.estimate(r["cascade_accuracy"]), _in_points(r["difference"]), f.estimate(r["escalation_rate"])]
                    if kept
                    else []
                )
                + [
                    f"{r['accepted_wrong']:,} {r['accepted']:,} {f.estimate(r['accepted_error'])}"
                    if r["accepted"]
                    else ""
                    for _ in range(kept)
                ]
                for r in found[f"{kind}s"]["rows"]
            ]
    if found["floors"]:
        out["Floors"] = [
            [
                f.plain(r["name"], 40),
                " ".join(f.plain(label, 40) for label in r["labels"][:30]),
                f.count(r["recall"]["n"]),
                f.share(r["floor"]),
                f.estimate(r["recall"]),
            ]
            for r in found["floors"]
        ]
    if found["rates"] and kept:
        out["Rates of each label"] = [
            [f.plain(r["name"], 40) + (f" {len(r['members'])}" if len(r["members"]) > 1 else "")]
            + [f.estimate(r[kind]) for kind in ("precision", "recall", "flag_rate")]
            for r in found["rates"]
        ]
    confusion = found["confusion"]
    if confusion and confusion["labels"]:
        out["Confusion of kept answers"] = [
            [f.plain(label, 40), *map(f.count, counts)]
            for label, counts in zip(confusion["labels"], confusion["table"], strict=True)
        ]
    elif confusion and confusion["commonest"]:
        out["Commonest confusions"] = [
            [f.plain(c["label"], 40), f.plain(c["answer"], 40), f.count(c["n"])] for c in confusion["commonest"]
        ]
    if found["mistakes"]:
        out["Most confident mistakes"] = [
            [f.plain(m["example_id"], 40), f.number(m["confidence"], 5)]
            + [f.plain(m[k] or "", 60) for k in ("label", "cheap_answer", "strong_answer")]
            + [f.plain(m["text"] or "")]
            for m in found["mistakes"]
        ]
    return out


def _health(data: Mapping[str, Any]) -> dict[str, Table]:
    health, out = data["health"], {}
    if health["statuses"]:
        out["What the models sent back"] = [
            ["", "", f.count(n)] for counted in health["statuses"].values() for n in counted.values()
        ]
    if health["labels"]:
        out["Label mix"] = [
            [f.plain(entry["label"], 80), f.count(entry["n"]), f.share(entry["share"])] for entry in health["labels"]
        ]
        if data["previous"]:
            for row, entry in zip(out["Label mix"], health["labels"], strict=True):
                row.append("" if entry["previous_share"] is None else f.share(entry["previous_share"]))
    runs = [health.get(key) for key in ("confidence", "previous_confidence")]
    if runs[0] and runs[0]["quantiles"]:
        out["Confidence quantiles"] = [
            ["", *(f.number(q["value"]) for q in run["quantiles"])] for run in runs if run and run["quantiles"]
        ]
    return out


def _rest(data: Mapping[str, Any]) -> dict[str, Table]:
    watch, replies, out = data["use"]["watch"], data["provenance"]["replies"], {}
    if watch:
        told = [
            watch[key]
            for key in ("escalated", "out_of_set", "no_logprobs")
            if key == "escalated" or data["provider"] != "given"
        ]
        band = "{lower:,} and {upper:,} in"
        out["What to watch"] = [
            ["", f.share(w["value"]), f"{band.format(**w)} {f.count(watch['of'])}"] if w else ["", "", ""] for w in told
        ]
    if replies:
        counted = ("rows", "requests", "failed", "input_tokens", "output_tokens", "usd", "usd_unknown", "attempts")
        out["What the replies took"] = [
            ["", *((f.usd if name == "usd" else f.count)(spent[name]) for name in counted)]
            for spent in replies.values()
        ]
    return out


def _prose(main: Node, data: Mapping[str, Any]) -> Iterator[str]:
    """An estimate with an interval in running text must be one of report.json's, value and bounds together."""
    known = {f.estimate(e, unit) for e in _estimates(data) for unit in ("share", "usd", "number", "per_1000")}
    known |= {f"{f.points(e['value'])} {f.point_bounds(e)}" for e in _estimates(data) if -1 <= e["value"] <= 1}
    words = main.but("table", "ul", "pre", "bdi")
    for value, bounds in PAIR.findall(words):
        if f"{value} {bounds}" not in known:
            yield f"no estimate of report.json: {value} {bounds}"


def _estimates(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("value"), float) and "lower" in value:
            yield value
        for item in value.values():
            yield from _estimates(item)
    elif isinstance(value, list):
        for item in value:
            yield from _estimates(item)
