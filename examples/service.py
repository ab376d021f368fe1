"""A web service in front of a policy. See examples/README.md for how to start it.

POST /answer {"columns": {...}, "options": [...], "segment": "...", "id": "..."} answers one request; GET /policy says what is served.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from together import APIError, AsyncTogether

from cascade_threshold.cascade import Cascade
from cascade_threshold.policy import Policy, load
from pipeline.collect.request import lettered, messages, prompt_digest
from pipeline.config import yaml_file
from pipeline.config.prompt import Prompt
from pipeline.config.task import TaskConfig


class Question(BaseModel):
    """One request: the columns that the prompt uses, for kind choose the row's options, and its segment where the policy reads it."""

    columns: dict[str, str]
    options: list[str] | None = None
    segment: str | None = None
    id: str | None = None


class Reply(BaseModel):
    """The answer, whose it is, how sure the cheap model was, and what it cost (null where unknown)."""

    answer: str | None
    route: str
    confidence: float | None
    calibrated_confidence: float | None
    usd: float | None
    reason: str


def create_app(policy: Policy, prompt: Prompt, client: AsyncTogether, *, log: Path, shadow: float = 0.01) -> FastAPI:
    """The service over a policy, the prompt that it was calibrated with, and a client."""
    # another prompt than the calibrated one escalates everything, so a change of wording shows at once
    digest = prompt_digest(prompt)
    cascade = Cascade(policy, client, log=log, shadow=shadow)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.close()

    app = FastAPI(title=f"Cascade for {policy.task}", lifespan=lifespan)

    @app.post("/answer")
    async def answer(question: Question) -> Reply:
        columns = dict(question.columns)
        if question.options is not None:
            columns["options"] = lettered(question.options)
        missing = [name for name in prompt.columns if name not in columns]
        if missing:
            raise HTTPException(422, f"the prompt needs the columns {', '.join(missing)}")
        try:
            found = await cascade.answer_async(
                messages(prompt, columns),
                options=question.options,
                prompt_sha256=digest,
                request_id=question.id,
                text="\n".join(columns[name] for name in prompt.columns),  # as calibration joined them
                segment=question.segment,
            )
        except APIError as error:
            raise HTTPException(502, f"the strong model did not answer ({type(error).__name__})") from None
        decision = found.decision
        return Reply(answer=found.answer, route=found.route, confidence=found.confidence,
                     calibrated_confidence=decision.calibrated_confidence, usd=found.usd, reason=decision.reason)  # fmt: skip

    @app.get("/policy")
    def about() -> dict[str, Any]:
        return {"task": policy.task, "verdict": policy.verdict, "threshold": policy.threshold, "provider": policy.document["provider"],
                "digest": policy.document["digest"], "expected": policy.document["expected"]}  # fmt: skip

    return app


def from_environment() -> FastAPI:
    """The service as CASCADE_POLICY, CASCADE_CONFIG and CASCADE_LOG describe it."""
    policy = load(os.environ["CASCADE_POLICY"])
    config = yaml_file.load(Path(os.environ["CASCADE_CONFIG"]))
    if config.prompt is None:
        raise SystemExit(f"{config.source}: names no prompt")
    log = Path(os.environ.get("CASCADE_LOG", "decisions.jsonl"))
    return create_app(policy, config.prompt, _client(policy, config), log=log)


def _client(policy: Policy, config: TaskConfig) -> AsyncTogether:
    if policy.document["provider"] != "embedded":
        address = policy.document["cheap"].get("base_url")
        if address and urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost"):
            # a server of one's own; the SDK wants some key and adds /v1 itself
            return AsyncTogether(api_key="none", base_url=address.removesuffix("/v1"), max_retries=0)
        return AsyncTogether(max_retries=0)  # reads TOGETHER_API_KEY; a retry could be paid twice
    from pipeline.demo import transport
    from pipeline.demo.weights import load

    weights = [
        side.weights for side in (config.cheap, config.strong) if side is not None and not getattr(side, "human", False)
    ]
    return transport.client([load(Path(config.resolve(path))) for path in weights if path])
