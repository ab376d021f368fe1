"""Small runs made by the product itself, one for each verdict, kind and source, shared by all tests of what people read."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.special import expit

from pipeline.__main__ import main

LABELS = ("work", "personal", "spam", "other")
THREE = {"fit": 0.25, "certify": 0.5, "test": 0.25}
DEAR, CHEAP = {"input": 1.32, "output": 3.96}, {"input": 0.17, "output": 0.25}
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</script><svg onload='window.pwned=1'></svg>",
    "</style></title><img src=x onerror='window.pwned=1'>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u202c \u2066iso",
    '" autofocus onfocus="window.pwned=1" x="',
    "=HYPERLINK(1)",
)


@dataclass(frozen=True)
class Scene:
    """What a run is made of. `easy`: how often the cheap model is right; `sharp`: how well its confidence tells."""

    kind: str = "classify"
    rows: int = 800
    easy: float = 0.2
    sharp: float = 0.75
    labels: tuple[str, ...] = LABELS
    segments: tuple[str, ...] = ("short", "long")
    target: Mapping[str, Any] = field(default_factory=lambda: {"kind": "match_strong", "within": 0.03})
    split: Any = field(default_factory=lambda: dict(THREE))
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the config."""
    cheap_price: Mapping[str, float] = field(default_factory=lambda: dict(CHEAP))
    gold: bool = True
    human: bool = False
    table: bool = False
    """A table of predictions in place of replies."""
    priced: bool = True
    sample: float | None = None
    """Share of the strong answers that are bought."""
    text: tuple[str, ...] = ("please look at the invoice of last week",)
    seed: int = 7


SCENES: dict[str, Scene] = {
    "certified": Scene(rows=1600),
    "qualified": Scene(rows=900, seed=3),
    "uncertified": Scene(rows=300, target={"kind": "match_strong", "within": 0.005}),
    "check_data": Scene(rows=400, sharp=-0.4, target={"kind": "match_strong", "within": 0.005}),
    "cheap_only": Scene(rows=500, easy=3.0, target={"kind": "match_strong", "within": 0.1}),
    "strong_only": Scene(rows=500, cheap_price={"input": 20.0, "output": 20.0}),
    "optimized": Scene(rows=500, target={"kind": "total_cost", "usd_per_error": 0.002}),
    "unlabeled": Scene(rows=600, gold=False, target={"kind": "agree_with_strong", "within": 0.15}),
    "people": Scene(rows=500, human=True, target={"kind": "match_strong", "within": 0.1}),
    "accepted": Scene(
        rows=600, target={"kind": "accepted_accuracy", "at_least": 0.9, "label_floors": {"spam": 0.6, "work": 0.4}}
    ),
    "enriched": Scene(
        rows=600,
        more={"prevalence": {"work": 0.6, "personal": 0.2, "spam": 0.1, "other": 0.1}},
        target={"kind": "match_strong", "within": 0.05},
    ),
    "choose": Scene(
        kind="choose", rows=500, labels=("A", "B", "C", "D"), target={"kind": "match_strong", "within": 0.06}
    ),
    "judge": Scene(kind="judge", rows=600, labels=("yes", "no"), target={"kind": "match_strong", "within": 0.06}),
    "table": Scene(rows=600, table=True, target={"kind": "match_strong", "within": 0.06}),
    "unpriced": Scene(rows=600, table=True, priced=False, target={"kind": "match_strong", "within": 0.06}),
    "sampled": Scene(rows=900, split=None, sample=0.5, target={"kind": "match_strong", "within": 0.06}),
    "pooled": Scene(rows=700, split=None, target={"kind": "match_strong", "within": 0.05}),
    "hidden": Scene(rows=300, more={"report": {"examples": "none"}}, target={"kind": "match_strong", "within": 0.1}),
    "hostile": Scene(
        rows=400, labels=HOSTILE, segments=HOSTILE, text=HOSTILE, target={"kind": "match_strong", "within": 0.1}
    ),
}


@dataclass(frozen=True)
class Made:
    """A run that the command line made, and what lies of it on the disk."""

    folder: Path
    name: str

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def report(self) -> Path:
        """The folder of the page."""
        (found,) = self.folder.glob(f"reports/{self.name}/**/report.json")
        return found.parent

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.report / "report.json").read_text("utf-8"))
        return found

    @property
    def page(self) -> str:
        return (self.report / "report.html").read_text("utf-8")

    def artefact(self, name: str) -> Path:
        """Where an artefact of the run lies."""
        (found,) = self.folder.glob(f"runs/{self.name}/**/{name}")
        return found

    def table(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = pq.read_table(self.artefact(name)).to_pandas()
        return frame

    def json(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.artefact(name).read_text("utf-8"))
        return found

    def command(self, name: str, *more: str) -> int:
        """Run a command of the product on it."""
        places = ["--runs-dir", str(self.folder / "runs"), "--reports-dir", str(self.folder / "reports"), "--quiet"]
        given = ["--predictions", str(self.folder / "table.csv")] if (self.folder / "table.csv").exists() else []
        # in a thread of its own: the browser's driver keeps an event loop running in this one
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(main, [name, str(self.config), *given, *places, *more]).result()

    def copied(self, folder: Path) -> Made:
        """A copy to change."""
        shutil.copytree(self.folder, folder / self.name)
        return Made(folder / self.name, self.name)


def shelf(common: Path) -> Callable[[str], Made]:
    """Runs by name, each made once for all workers that share the folder `common`."""

    def get(name: str) -> Made:
        folder = common / name
        with (common / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "done").exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                lay_out(folder, name, SCENES[name])
                assert Made(folder, name).command("evaluate") == 0, name
                (folder / "done").touch()
        return Made(folder, name)

    return get


def lay_out(folder: Path, name: str, scene: Scene) -> None:
    """Write config, rows and replies, drawn from a population with a known truth."""
    frame = population(scene)
    (folder / "config.yaml").write_text(json.dumps(config(name, scene)), "utf-8")  # JSON is YAML
    if scene.table:
        frame.drop(columns=["text", "shape"]).to_csv(folder / "table.csv", index=False)
        return
    rows = frame[["example_id", "text", "segment", "group"]].rename(columns={"example_id": "id"})
    if scene.gold:
        rows["label"] = frame["label"]
    if scene.kind == "choose":
        rows["options"] = [[f"{letter} of {i}" for letter in scene.labels] for i in rows["id"]]
    rows.to_json(folder / "rows.jsonl", orient="records", lines=True, force_ascii=True)
    for role in ("cheap", "strong"):
        lines = (json.dumps(line(row, role, scene)) for row in frame.to_dict("records"))
        (folder / f"{role}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def config(name: str, scene: Scene) -> dict[str, Any]:
    """The task's config."""
    more = dict(scene.more)
    dataset: dict[str, Any] = {"path": "rows.jsonl", "id": "id", "segment": "segment"}
    dataset |= {} if scene.split is None else {"split": scene.split}
    dataset |= {"prevalence": more.pop("prevalence")} if "prevalence" in more else {}
    dataset |= {"label": "label"} if scene.gold else {}
    dataset |= {"options": "options"} if scene.kind == "choose" else {}
    dataset |= {"group": "group"} if scene.kind == "judge" else {}
    told: dict[str, Any] = {"task": name, "kind": scene.kind, "target": dict(scene.target), **more}
    told |= {"labels": list(scene.labels)} if scene.kind == "classify" else {}
    if scene.table:
        return told
    source = {"as_of": "2026-11-22", "source": "price list"}

    def model(role: str, price: Mapping[str, float]) -> dict[str, Any]:
        return {
            "model": f"maker/{role}-model",
            "usd_per_million_tokens": {**price, **source},
            "params": {"temperature": 0, "max_tokens": 8},
            "replies": f"{role}.jsonl",
        }

    strong = {"human": True, "usd_per_request": 0.4} if scene.human else model("strong", DEAR)
    strong |= {} if scene.sample is None else {"sample": scene.sample}
    prompt = {"user": "{text}" + ("\n{options}" if scene.kind == "choose" else "")}
    return told | {
        "description": "Sort an email into one of four folders.",
        "dataset": dataset,
        "prompt": prompt,
        "provider": "recorded",
        "cheap": model("cheap", scene.cheap_price),
        "strong": strong,
    }


def population(scene: Scene) -> pd.DataFrame:
    """Rows with answers of both models; about one in fifty cheap replies is no answer."""
    rng, n, answers = np.random.default_rng(scene.seed), scene.rows, np.array(scene.labels, dtype=object)
    logit = np.where(rng.random(n) < 0.7, rng.normal(4.5, 1.6, n), rng.normal(1.0, 1.2, n))
    logit = np.clip(np.where(logit < -1, -2 - logit, logit), -1, 9)
    right = rng.random(n) < expit(scene.easy + scene.sharp * logit)
    strong_right = rng.random(n) < np.where(right, 0.99, 0.75)
    at = rng.integers(0, len(answers), n)
    other = answers[(at + rng.integers(1, len(answers), n)) % len(answers)]
    label, hard = answers[at], np.where(right, "", " re fwd")
    text = [f"{scene.text[i % len(scene.text)]} {i}{hard[i] if rng.random() < 0.5 else ''}" for i in range(n)]
    strong_usd = rng.normal(165e-6, 12e-6, n)
    frame = pd.DataFrame(
        {
            "example_id": [f"row-{i:05d}" for i in range(n)],
            "text": text,
            "group": [f"g{i // 5 if scene.kind == 'judge' else i}" for i in range(n)],
            "segment": np.array(scene.segments, dtype=object)[rng.integers(0, len(scene.segments), n)],
            "label": label,
            "cheap_answer": np.where(right, label, other),
            "strong_answer": np.where(strong_right, label, other),
            "confidence": np.round(expit(logit), 6),
            "shape": np.where(rng.random(n) < 0.02, "out", np.where(rng.random(n) < 0.01, "bare", "ok")),
            "cheap_correct": right.astype(int),
            "strong_correct": strong_right.astype(int),
        }
    )
    if scene.priced:
        frame["cheap_usd"], frame["strong_usd"] = rng.normal(21e-6, 2e-6, n), strong_usd
    return frame


def line(row: Mapping[str, Any], role: str, scene: Scene) -> dict[str, Any]:
    """A recorded reply. The cheap model's answer comes as one or two tokens, of which the first is in doubt."""
    answer = "I cannot tell" if role == "cheap" and row["shape"] == "out" else str(row[f"{role}_answer"])
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
    if role == "cheap" and row["shape"] != "bare":
        p = float(row["confidence"])
        parts = [answer] if len(answer) < 6 else [answer[:4], answer[4:]]
        others = [(a, (1 - p) * 0.9 / (len(scene.labels) - 1)) for a in scene.labels if a != answer]
        choice["logprobs"] = {
            "content": [
                token(parts[0], p, others) if k == 0 else token(part, 0.999, [(" .", 0.0004)])
                for k, part in enumerate(parts)
            ]
        }
    size = 80 + len(str(row["text"]))
    body = {
        "object": "chat.completion",
        "model": f"maker/{role}-model",
        "choices": [choice],
        "usage": {"prompt_tokens": size, "completion_tokens": 2},
    }
    return {"custom_id": row["example_id"], "response": {"status_code": 200, "body": body}}


def token(text: str, p: float, others: list[tuple[str, float]]) -> dict[str, Any]:
    """One token as the wire has it, with its alternatives."""

    def one(told: str, at: float) -> dict[str, Any]:
        return {"token": told, "bytes": list(told.encode()), "logprob": round(float(np.log(max(at, 1e-9))), 7)}

    return {**one(text, p), "top_logprobs": [one(text, p), *(one(a, q) for a, q in others[:4])]}
