"""The bundled tasks, from the command line to their verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deliver import shown
from deliver.page import Page
from run_folder import RunFolder

from pipeline.__main__ import main
from pipeline.config.task import Strong
from pipeline.config.yaml_file import known_tasks, load

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
TASKS = ("autocomplete_ranking", "content_moderation", "email_triage", "retrieval_relevance")
VARIANTS = {
    "email_triage_strict": "uncertified",
    "content_moderation_people": "certified",
    "content_moderation_costs": "optimized",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundled")


def evaluated(config: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], RunFolder]:
    where = ["--runs-dir", str(folder / "runs"), "--reports-dir", str(folder / "reports"), "--quiet", "--json"]
    assert main(["evaluate", str(config), *where]) == 0
    result = json.loads(capsys.readouterr().out)
    page = Path(result["report"])
    told = Page(page.read_text("utf-8"))
    assert told.faults == []
    assert shown.faults(told, json.loads(page.with_name("report.json").read_text("utf-8"))) == []
    return result, RunFolder(folder / "runs", result)


def test_the_bundled_configs_name_models_with_dated_prices_and_cost_nothing_as_they_are() -> None:
    assert tuple(known_tasks(CONFIGS)) == TASKS
    for path in CONFIGS.rglob("*.yaml"):
        config = load(path)
        assert config.provider == "embedded"
        assert config.task == path.stem
        for model in (config.cheap, config.strong):
            if model is config.cheap or isinstance(model, Strong):
                assert model is not None
                assert Path(config.resolve(model.weights or "")).is_file()
                assert model.usd_per_million_tokens.as_of.year >= 2026
                assert model.params["max_tokens"] <= 16


def test_weights_stay_small() -> None:
    assert sum(p.stat().st_size for p in (ROOT / "datasets").rglob("*.npz")) < 8_000_000


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_each_task_certifies_something_useful_at_its_default_target(
    task: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result, run = evaluated(CONFIGS / f"{task}.yaml", folder, capsys)
    advice = json.loads((run / "recommendation.json").read_text())
    assert result["verdict"] == "certified"
    assert advice["expected"]["escalation_rate"]["value"] < 0.6
    assert advice["expected"]["usd_per_1000"]["value"] < 0.7 * advice["expected"]["strong_usd_per_1000"]["value"]
    if task == "retrieval_relevance":
        assert advice["certificate"]["unit"] == "groups"
        assert set(advice["ranking"]["cascade"]) == {"ndcg_at_10", "map", "precision_at_1", "precision_at_3"}
    if task == "autocomplete_ranking":
        assert advice["ranking"]["cascade"]["top_1"]["value"] > advice["ranking"]["cheap"]["top_1"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_ends_as_its_first_lines_say(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, run = evaluated(CONFIGS / "variants" / f"{name}.yaml", folder, capsys)
    assert result["verdict"] == VARIANTS[name]
    advice = json.loads((run / "recommendation.json").read_text())
    if name == "email_triage_strict":
        assert advice["labels_needed"] > 0
        assert advice["threshold"] is None
