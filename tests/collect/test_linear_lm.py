"""The linear models: probabilities against scikit-learn's own, and their spelling as tokens against sums by hand."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import re
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import LogisticRegression

from datasets.train_linear import EXAMINES, Size, fit, write
from pipeline.collect.request import lettered
from pipeline.config.prompt import Prompt
from pipeline.config.target import Target
from pipeline.config.task import Dataset, TaskConfig
from pipeline.demo.linear_lm import (
    KIND,
    LinearLM,
    PromptNotUnderstoodError,
    pair_features,
    spell,
    template_pattern,
    text_features,
)
from pipeline.demo.transport import BASE_URL, EmbeddedTransport
from pipeline.demo.weights import load

LABELS = ("card_arrival", "card_lost", "card", "refund")
WORDS = {
    "card_arrival": "when will it come by mail waiting",
    "card_lost": "lost stolen wallet gone street",
    "card": "card plastic colour design",
    "refund": "money back return shop price",
}
SIZE = Size(400, 2**11, 5.0, 1)


def config(kind: str, user: str, labels: tuple[str, ...] | None = None, **dataset: Any) -> TaskConfig:
    return TaskConfig(
        task="small",
        kind=kind,
        labels=labels,
        prompt=Prompt(user=user),
        target=Target(within=0.02),
        dataset=Dataset(path="x.jsonl", label="label", **dataset),
    )


def texts(count: int, seed: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.choice(LABELS)
        words = rng.choices(WORDS[label].split(), k=3) + rng.choices(" ".join(WORDS.values()).split(), k=3)
        rows.append({"text": " ".join(words), "label": label})
    return rows


def saved(path: Path, settings: TaskConfig, rows: list[dict[str, Any]], labels: tuple[str, ...]) -> LinearLM:
    assert settings.prompt is not None
    about = {
        "kind": KIND,
        "name": "small",
        "stands_in_for": "none",
        "examines": EXAMINES[settings.kind],
        "answers": labels,
        "user": settings.prompt.user,
    }
    write(path, fit(settings, rows, SIZE), about)
    model = load(path)
    assert isinstance(model, LinearLM)
    return model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> LinearLM:
    path = tmp_path_factory.mktemp("linear") / "x.npz"
    return saved(path, config("classify", "{text}", LABELS), texts(400, 1), LABELS)


def table(rows: list[dict[str, Any]]) -> sparse.csr_array:
    """Counts of words and neighbouring words by place, made without the product's features."""
    out = np.zeros((len(rows), SIZE.places))
    for number, row in enumerate(rows):
        words = row["text"].split()
        for name in {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}:
            out[number, zlib.crc32(name.encode()) % SIZE.places] += 1
    return sparse.csr_array(out)


def test_probabilities_are_those_of_scikit_learn(classifier: LinearLM) -> None:
    rows, fresh = texts(400, 1), texts(50, 2)
    weigh = TfidfTransformer().fit(table(rows))
    # its idf is ln((1 + n) / (1 + df)) + 1, as here
    reference = LogisticRegression(C=SIZE.inverse_penalty, max_iter=500)
    reference.fit(weigh.transform(table(rows)), [LABELS.index(row["label"]) for row in rows])
    expected = reference.predict_proba(weigh.transform(table(fresh)))
    for row, probabilities in zip(fresh, expected, strict=True):
        found = classifier.probabilities(row["text"])
        assert list(found) == list(LABELS)
        assert list(found.values()) == pytest.approx(probabilities.tolist(), abs=5e-3)


def test_tokens_multiply_to_the_answers_probability_and_shared_first_tokens_add_up(classifier: LinearLM) -> None:
    for row in texts(60, 3):
        p = classifier.probabilities(row["text"])
        said = classifier.generate([{"role": "user", "content": row["text"]}], 8, 5)
        answer = b"".join(t.bytes for t in said.tokens).decode()
        first = {a.bytes: math.exp(a.logprob) for a in said.tokens[0].alternatives}
        assert first[b"card"] == pytest.approx(p["card_arrival"] + p["card_lost"] + p["card"])
        assert first[b"refund"] == pytest.approx(p["refund"])
        assert said.finish_reason == "stop"
        if answer == "card":  # here the end is an alternative too, and the end token is not listed
            assert p["card"] >= max(p["card_arrival"], p["card_lost"])
        else:
            assert math.exp(sum(t.logprob for t in said.tokens)) == pytest.approx(p[answer])


def test_max_tokens_cuts_the_answer(classifier: LinearLM) -> None:
    said = classifier.generate([{"role": "user", "content": "lost stolen wallet gone"}], 1, 1)
    assert ([t.bytes for t in said.tokens], said.finish_reason) == ([b"card"], "length")


@given(st.text(), st.text())
def test_any_text_gets_probabilities_that_sum_to_one(first: str, second: str) -> None:
    model = load(ROOT / "datasets" / "retrieval_relevance" / "models" / "cheap.npz")
    assert isinstance(model, LinearLM)
    p = model.probabilities(f"Query: {first}\n\nPassage: {second}")
    assert set(p) == {"yes", "no"}
    assert math.fsum(p.values()) == pytest.approx(1)


def test_a_judge_learns_what_goes_with_what(tmp_path: Path) -> None:
    rng, partner = random.Random(4), {"cat": "meows", "dog": "barks", "cow": "moos"}
    rows = []
    for _ in range(400):
        a, b = rng.choice(list(partner)), rng.choice(list(partner))
        rows.append({"q": f"what does the {a} do", "p": f"it {partner[b]} all day", "label": "yes" if a == b else "no"})
    model = saved(tmp_path / "x.npz", config("judge", "Query: {q}\n\nPassage: {p}"), rows, ("yes", "no"))
    for row in rows[:50]:
        p = model.probabilities(f"Query: {row['q']}\n\nPassage: {row['p']}")
        assert max(p, key=lambda label: p[label]) == row["label"]


def test_a_choice_weighs_each_option_with_its_context_and_not_its_place(tmp_path: Path) -> None:
    rng, partner = random.Random(5), {"tea": "hot water", "soup": "a spoon", "bread": "a knife", "cake": "a candle"}
    rows = []
    for _ in range(400):
        thing, options = rng.choice(list(partner)), rng.sample(list(partner.values()), 3)
        if partner[thing] not in options:
            options[rng.randrange(3)] = partner[thing]
        rows.append(
            {"context": f"for the {thing} I need", "options": options, "label": "ABC"[options.index(partner[thing])]}
        )
    settings = config("choose", "{context}\n\n{options}", options="options")
    model = saved(tmp_path / "x.npz", settings, rows, tuple("ABCDEFGH"))
    for row in rows[:50]:
        p = model.probabilities(f"{row['context']}\n\n{lettered(row['options'])}")
        assert max(p, key=lambda letter: p[letter]) == row["label"]
        turned = model.probabilities(f"{row['context']}\n\n{lettered(row['options'][::-1])}")
        assert list(turned.values()) == pytest.approx(list(p.values())[::-1])


def test_another_prompt_is_refused_and_not_answered_at_random() -> None:
    judge = load(ROOT / "datasets" / "retrieval_relevance" / "models" / "cheap.npz")
    for text in ("What is relevant here?", "Query: a\nPassage: b"):
        with pytest.raises(PromptNotUnderstoodError):
            judge.generate([{"role": "user", "content": text}], 8, 5)

        async def post(text: str = text) -> httpx.Response:
            async with httpx.AsyncClient(transport=EmbeddedTransport([judge])) as http:
                body = {"model": judge.name, "messages": [{"role": "user", "content": text}]}
                return await http.post(BASE_URL + "/v1/chat/completions", json=body)

        response = asyncio.run(post())
        assert response.status_code == 400
        assert "understands only the prompt" in response.json()["error"]["message"]
    chooser = load(ROOT / "datasets" / "autocomplete_ranking" / "models" / "cheap.npz")
    with pytest.raises(PromptNotUnderstoodError, match="no options"):
        chooser.generate([{"role": "user", "content": "I would like\n\nsome tea"}], 8, 5)


def test_an_option_on_several_lines_of_context_is_still_found() -> None:
    found = re.fullmatch(template_pattern("{context}\n\n{options}"), "one\n\ntwo\nA. three\n\nA. x\nB. y", re.DOTALL)
    assert found is not None
    assert found.groups() == ("one\n\ntwo\nA. three", "A. x\nB. y")


def test_literal_braces_of_a_template_are_literal() -> None:
    found = re.fullmatch(template_pattern("{{x}} {text} (a|b)?"), "{x} hello (a|b)?")
    assert found is not None
    assert found.groups() == ("hello",)


@given(st.from_regex(r"[a-z_ A-Z0-9\-é]{1,30}", fullmatch=True))
def test_tokens_of_an_answer_join_to_the_answer(answer: str) -> None:
    assert b"".join(spell(answer)).decode() == answer


def test_answers_are_cut_where_a_sign_begins() -> None:
    assert spell("self_harm") == (b"self", b"_harm")
    assert spell("yes") == (b"yes",)
    assert spell("not my-type") == (b"not", b" my", b"-type")


def test_features_of_texts_and_pairs() -> None:
    assert text_features("The cat, the dog") == {"the", "cat", "dog", "the cat", "cat the", "the dog"}
    assert pair_features("red cat", "cat sat") == {
        "red cat",
        "red sat",
        "cat cat",
        "cat sat",
        "+cat",
        "+sat",
        "=cat",
        "#1",
        "+",
    }


def test_a_pair_of_huge_texts_is_bounded_work() -> None:
    long = " ".join(f"w{i}" for i in range(100_000))
    assert len(pair_features(long, long)) <= 400 * 400 + 400 + 400 + 2


@pytest.mark.parametrize("task", ["retrieval_relevance", "autocomplete_ranking"])
@pytest.mark.parametrize("role", ["cheap", "strong"])
def test_a_bundled_linear_model_says_what_it_is(task: str, role: str) -> None:
    model = load(ROOT / "datasets" / task / "models" / f"{role}.npz")
    assert re.fullmatch(rf"embedded/tfidf-logreg-{task.replace('_', '-')}-{role}@[0-9a-f]{{12}}", model.name)
    assert isinstance(model, LinearLM)
    assert model.metadata["training"]["script"] == "datasets/train_linear.py"


def test_a_file_that_is_no_weight_file_is_named(tmp_path: Path) -> None:
    for name, content in (("a.npz", b"not a zip"), ("b.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not the weight file"):
            load(tmp_path / name)
    np.savez(tmp_path / "c.npz", metadata=np.frombuffer(json.dumps({"kind": "oracle"}).encode(), dtype=np.uint8))
    with pytest.raises(ValueError, match="oracle"):
        load(tmp_path / "c.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.npz")
