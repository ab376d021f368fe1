"""The embedded models behind the real SDK: what arrives, what is refused, and how good the answers are."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import together
from conftest import ROOT

from cascade_threshold.answers import AnswerSet
from cascade_threshold.signals import measure
from pipeline.collect.providers.chat_api import ChatApi
from pipeline.collect.providers.embedded import Embedded
from pipeline.collect.providers.provider import Attempt
from pipeline.collect.request import Request, lettered, messages
from pipeline.config.yaml_file import load as read_config
from pipeline.demo.processes import Processes
from pipeline.demo.transport import BASE_URL, EmbeddedTransport, client
from pipeline.demo.weights import Model, load
from pipeline.run.libraries import loading

TASK = ROOT / "datasets" / "email_triage"
MODELS = {role: load(TASK / "models" / f"{role}.npz") for role in ("cheap", "strong")}
CHEAP = MODELS["cheap"]
# Promised range of the cheap model's accuracy; the strong one is at least 5 points above it.
RANGES = {
    "email_triage": (0.78, 0.92),
    "content_moderation": (0.78, 0.92),
    "retrieval_relevance": (0.72, 0.82),
    "autocomplete_ranking": (0.72, 0.85),
}
ASKED = [{"role": "user", "content": "Subject: Sunday\n\nMum asked if you can bring the cake."}]


def ask(body: Any, models: dict[str, Model] | None = None) -> httpx.Response:
    """POST a body straight to the transport."""

    async def post() -> httpx.Response:
        transport = EmbeddedTransport((models or MODELS).values())
        async with httpx.AsyncClient(transport=transport) as http:
            content = body if isinstance(body, bytes) else json.dumps(body)
            return await http.post(BASE_URL + "/v1/chat/completions", content=content)

    return asyncio.run(post())


def asking(**fields: Any) -> dict[str, Any]:
    return {"model": CHEAP.name, "messages": ASKED, "max_tokens": 8, **fields}


def through_sdk(**fields: Any) -> Any:
    async def create() -> Any:
        async with client(MODELS.values()) as sdk:
            return await sdk.chat.completions.create(**fields)

    return asyncio.run(create())


def test_the_real_sdk_gets_a_completion_with_its_logprobs() -> None:
    reply = through_sdk(**asking(temperature=0, logprobs=5))
    assert (reply.model, reply.object, reply.choices[0].finish_reason) == (CHEAP.name, "chat.completion", "stop")
    content = reply.choices[0].logprobs.content
    assert "".join(entry["token"] for entry in content) == reply.choices[0].message.content == "personal"
    assert [len(entry["top_logprobs"]) for entry in content] == [5, 5]
    assert reply.usage.completion_tokens == 2
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 2


def test_every_entry_has_token_bytes_and_a_logprob_of_at_most_zero() -> None:
    reply = ask(asking(logprobs=20)).json()
    for entry in reply["choices"][0]["logprobs"]["content"]:
        assert entry.keys() == {"token", "bytes", "logprob", "top_logprobs"}
        assert bytes(entry["bytes"]).decode() == entry["token"]
        assert entry["logprob"] == entry["top_logprobs"][0]["logprob"] <= 0
        falling = [a["logprob"] for a in entry["top_logprobs"]]
        assert falling == sorted(falling, reverse=True)
        assert sum(map(math.exp, falling)) <= 1 + 1e-6


def test_both_forms_of_asking_for_logprobs_give_the_same() -> None:
    by_number, by_flag = ask(asking(logprobs=3)).json(), ask(asking(logprobs=True, top_logprobs=3)).json()
    assert by_number["choices"] == by_flag["choices"]
    assert (
        through_sdk(**asking(logprobs=True, extra_body={"top_logprobs": 3})).choices[0].logprobs.content
        == (by_flag["choices"][0]["logprobs"]["content"])
    )


def test_logprobs_are_null_unless_asked_for_and_alternatives_empty_when_none_are_wanted() -> None:
    for fields in ({}, {"logprobs": None}, {"logprobs": False}, {"logprobs": 0}):
        assert ask(asking(**fields)).json()["choices"][0]["logprobs"] is None
    alone = ask(asking(logprobs=True)).json()["choices"][0]["logprobs"]["content"]
    assert [entry["top_logprobs"] for entry in alone] == [[], []]


def test_max_tokens_cuts_the_answer_and_finish_reason_says_length() -> None:
    choice = ask(asking(max_tokens=1)).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("person", "length")


@pytest.mark.parametrize(
    "content", ["Mum asked about the cake.", 'Ünïcödé "quoted" \\ \u2028 \x00 end', "word " * 3000]
)
def test_without_the_sdk_in_between_the_same_reply_arrives(content: str) -> None:
    """A reply's id is a digest of the request's bytes, so these are the SDK's own."""
    request = Request(
        "1", "cheap", "embedded", CHEAP.name, ({"role": "user", "content": content},), {"max_tokens": 8}, 5
    )

    async def both() -> tuple[Attempt, Attempt]:
        here = Processes(TASK / "models" / "cheap.npz", CHEAP, count=1)
        straight = Embedded("embedded", here)
        through = ChatApi(client([CHEAP]), service="embedded", paid=False, timed=False)
        return await straight.complete(request), await through.complete(request)

    mine, theirs = asyncio.run(both())
    assert mine == theirs
    assert mine.http_status == (400 if len(content) > 5000 else 200)


@pytest.mark.slow
def test_collecting_from_embedded_models_loads_neither_an_http_client_nor_what_later_stages_need(
    tmp_path: Path,
) -> None:
    program = f"""
import sys
from pipeline.__main__ import main
assert main(["collect", "email_triage", "--limit", "5", "--quiet", "--runs-dir", {str(tmp_path)!r}]) == 0
print(*{{"together", "httpx", "aiohttp", "sklearn", "matplotlib", "scipy.stats", "scipy.optimize"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_libraries_load_beside_the_work_and_one_that_is_missing_is_no_error_yet(tmp_path: Path) -> None:
    """The work within waits for the first of them, so it can only end if they load at the same time."""
    (tmp_path / "loaded_meanwhile.py").write_text("import threading\nHERE = threading.get_ident()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        done: list[int] = []
        with loading("no_such_library", "loaded_meanwhile", then=lambda: done.append(threading.get_ident())):
            deadline = time.monotonic() + 30
            while not hasattr(sys.modules.get("loaded_meanwhile"), "HERE"):
                assert time.monotonic() < deadline
                time.sleep(0.001)
        assert done == [sys.modules.pop("loaded_meanwhile").HERE]
        assert done != [threading.get_ident()]
    finally:
        sys.path.remove(str(tmp_path))


def through(processes: Processes, bodies: list[bytes]) -> list[tuple[int, bytes]]:
    """The replies to bodies that are asked all at once."""

    async def run() -> list[tuple[int, bytes]]:
        try:
            return await asyncio.gather(*map(processes.answer, bodies))
        finally:
            await processes.aclose()

    return asyncio.run(run())


def some_bodies(count: int) -> list[bytes]:
    asked = [asking(logprobs=5, messages=[{"role": "user", "content": f"Lunch {i}?" * (i % 7)}]) for i in range(count)]
    asked.insert(5, asking(messages=[{"role": "user", "content": "word " * 40_000}]))  # longer than a pipe holds
    return [json.dumps(body).encode() for body in (*asked, asking(n=2), asking(model="another"))]


def test_processes_reply_with_the_bytes_that_this_process_would() -> None:
    def replies(count: int) -> list[tuple[int, bytes]]:
        return through(Processes(TASK / "models" / "cheap.npz", CHEAP, count=count, answered_here=3), some_bodies(40))

    alone = replies(1)
    assert replies(2) == alone
    assert [status for status, _ in alone[-3:]] == [200, 400, 404]


def test_two_models_share_the_processes_until_the_last_has_its_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    original = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await original(*command, **options))
        return started[-1]

    async def both() -> list[list[tuple[int, bytes]]]:
        first, second = (
            Processes(TASK / "models" / f"{role}.npz", MODELS[role], count=2, answered_here=n)
            for role, n in (("cheap", 0), ("strong", 200))
        )
        bodies = {role: [json.dumps(asking(model=MODELS[role].name, logprobs=5)).encode()] * 4 for role in MODELS}
        one = await asyncio.gather(*map(first.answer, bodies["cheap"]), second.answer(bodies["strong"][0]))
        await first.aclose()
        assert [process.returncode for process in started] == [None, None]
        two = await asyncio.gather(*map(second.answer, bodies["strong"]))
        await second.aclose()
        return [one[:-1], [one[-1], *two]]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    cheap, strong = asyncio.run(both())
    assert [process.returncode for process in started] == [0, 0]
    for role, found in (("cheap", cheap), ("strong", strong)):
        assert {status for status, _ in found} == {200}
        assert {json.loads(body)["model"] for _, body in found} == {MODELS[role].name}
        assert {body for _, body in found} == {ask(asking(model=MODELS[role].name, logprobs=5)).content}


def test_when_processes_are_killed_or_cannot_start_every_request_is_still_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bodies = some_bodies(40)
    alone = through(Processes(TASK / "models" / "cheap.npz", CHEAP, count=1), bodies)
    started: list[asyncio.subprocess.Process] = []
    original = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await original(*command, **options))
        asyncio.get_running_loop().call_later(
            0.02 * len(started), started[-1].kill
        )  # before it can have replied to all
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    assert through(Processes(TASK / "models" / "cheap.npz", CHEAP, count=2, answered_here=0), bodies) == alone
    assert [process.returncode for process in started] == [-9, -9]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert through(Processes(TASK / "models" / "cheap.npz", CHEAP, count=2, answered_here=0), bodies) == alone


def test_no_process_outlives_the_run_that_started_it() -> None:
    """The run is killed between two answers, so that it can end nothing itself."""
    program = f"""
import asyncio, os, signal
from pathlib import Path
from pipeline.demo.processes import Processes
from pipeline.demo.weights import load
path = Path({str(TASK / "models" / "cheap.npz")!r})
async def run():
    processes = Processes(path, load(path), count=2, answered_here=0)
    await processes.answer(b"{{}}")
    print(*(p._process.pid for p in processes._group.processes), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(run())
"""
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "a process is left over"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process is running (one that ended and was not waited for yet is not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_same_request_gives_the_same_bytes() -> None:
    first = ask(asking(logprobs=5)).content
    ask(asking(logprobs=5, messages=[{"role": "user", "content": "Something else."}]))
    assert ask(asking(logprobs=5)).content == first


def test_an_unknown_model_is_the_sdks_not_found_error_and_names_the_known_ones() -> None:
    with pytest.raises(together.NotFoundError) as caught:
        through_sdk(**asking(model="Qwen/Qwen3.5-9B"))
    assert "unable to access model Qwen/Qwen3.5-9B" in str(caught.value)
    assert CHEAP.name in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"n": 2},
        {"stream": True},
        {"stop": ["al"]},
        {"tools": [{}]},
        {"logprobs": 21},
        {"logprobs": -1},
        {"logprobs": "5"},
        {"logprobs": 5, "top_logprobs": 5},
        {"top_logprobs": 5},
        {"logprobs": True, "top_logprobs": 50},
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": "8"},
        {"messages": []},
        {"messages": "hello"},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": ["hello"]},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": "word " * 3000}]},
    ],
)
def test_what_cannot_be_honoured_is_refused_and_never_ignored(fields: dict[str, Any]) -> None:
    response = ask(asking(**fields))
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_neutral_values_of_unsupported_parameters_are_accepted() -> None:
    neutral = {"temperature": 0, "n": 1, "stream": False, "stop": None, "top_p": 0.9, "reasoning": {"enabled": False}}
    assert ask(asking(**neutral)).json()["choices"] == ask(asking()).json()["choices"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert ask(body).status_code == 400


def test_parts_of_a_message_are_joined() -> None:
    parts = [{"type": "text", "text": ASKED[0]["content"][:9]}, {"type": "text", "text": ASKED[0]["content"][9:]}]
    assert (
        ask(asking(messages=[{"role": "user", "content": parts}])).json()["choices"] == ask(asking()).json()["choices"]
    )


def test_the_models_are_listed_and_other_routes_do_not_exist() -> None:
    async def get(path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=EmbeddedTransport([CHEAP])) as http:
            return await http.get(BASE_URL + path)

    assert [m["id"] for m in asyncio.run(get("/v1/models")).json()] == [CHEAP.name]
    assert asyncio.run(get("/v1/completions")).status_code == 404


def test_other_tasks_of_the_event_loop_run_between_two_answers() -> None:
    async def both() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        async with client([CHEAP]) as sdk:
            for _ in range(5):
                await sdk.chat.completions.create(**asking())
        counting.cancel()
        return turns

    assert asyncio.run(both()) >= 5


def test_inference_needs_neither_torch_nor_a_tokenizer_library_nor_a_socket() -> None:
    code = (
        "import socket, sys\n"
        "from pathlib import Path\n"
        "from pipeline.demo.weights import load\n"
        "socket.socket.connect = socket.getaddrinfo = None\n"
        f"m = load(Path({str(TASK / 'models' / 'cheap.npz')!r}))\n"
        f"print(m.generate({ASKED!r}, 8, 5).finish_reason)\n"
        "print([n for n in ('torch', 'tokenizers', 'transformers', 'onnxruntime') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split("\n")[:2] == ["stop", "[]"]


@pytest.mark.parametrize("task", RANGES)
def test_the_weights_are_named_as_what_they_are(task: str) -> None:
    settings = read_config(ROOT / "configs" / f"{task}.yaml")
    for role in ("cheap", "strong"):
        model = load(ROOT / "datasets" / task / "models" / f"{role}.npz")
        assert re.fullmatch(rf"embedded/(tfidf-logreg-)?{task.replace('_', '-')}-{role}@[0-9a-f]{{12}}", model.name)
        assert model.stands_in_for == getattr(settings, role).model


def test_the_weights_stay_small() -> None:
    assert sum(path.stat().st_size for path in (TASK / "models").iterdir()) < 4_000_000
    assert sum(path.stat().st_size for path in (ROOT / "datasets").glob("*/models/*.npz")) < 8_000_000


@pytest.mark.slow
@pytest.mark.parametrize("task", RANGES)
def test_the_cheap_model_is_right_as_often_as_promised_and_the_strong_one_more_often(task: str) -> None:
    """300 rows spread over the set: the promised ranges, widened by two standard errors of a mean of 300."""
    settings = read_config(ROOT / "configs" / f"{task}.yaml")
    assert settings.prompt is not None
    models = {role: load(ROOT / "datasets" / task / "models" / f"{role}.npz") for role in ("cheap", "strong")}
    lines = (ROOT / "datasets" / task / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines[:: len(lines) // 300]][:300]
    right: dict[str, list[bool]] = {role: [] for role in models}
    measured = []
    for row in rows:
        columns = {name: row[name] for name in settings.prompt.columns}
        asked = messages(settings.prompt, {k: lettered(v) if isinstance(v, list) else v for k, v in columns.items()})
        answers = AnswerSet.choose(len(row["options"])) if "options" in row else AnswerSet.classify(settings.answers)
        for role, model in models.items():
            reply = ask(asking(model=model.name, messages=asked, logprobs=5), {model.name: model})
            found = measure(reply.content, answers, role=role)
            right[role].append(found.answer == row["label"])
            measured.append((role, found.status, found.signals["first_token"]))
    cheap, strong = (sum(right[role]) / len(rows) for role in ("cheap", "strong"))
    low, high = RANGES[task]
    assert low - 0.045 <= cheap <= high + 0.045
    assert strong - cheap >= 0.05 - 0.035
    assert sum(status != "ok" for _, status, _ in measured) <= 0.03 * len(measured)
    assert all(0 < signal <= 1 for role, status, signal in measured if (role, status) == ("cheap", "ok"))
