"""Policy: the production decision. Load a policy file, read one completion of the cheap model, accept or escalate.

Standard library only, and the same code that measured the calibration rows, so that production and calibration agree to
the last bit. The rules, in the order in which they apply:

1. no readable reply, or an answer that is not whole and in the set            -> escalate
2. a reply of a model whose name was not seen in calibration, another prompt   -> escalate
3. no confidence, or one from fewer alternatives than in calibration           -> escalate
4. the policy has no threshold (uncertified, strong_only)                      -> escalate
5. confidence < threshold                                                      -> escalate; a tie stays with the cheap model
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cascade_threshold import policy_schema as documents
from cascade_threshold.answers import AnswerSet
from cascade_threshold.calibrator import Calibrator
from cascade_threshold.constraint import response_format
from cascade_threshold.errors import DataError, UsageError
from cascade_threshold.learned import check_learned, lacking, reads_segment, reads_text
from cascade_threshold.signals import SIGNALS, measure

ACCEPT = "accept"
ESCALATE = "escalate"
DIALECTS = ("together", "openai", "litellm")
"""Dialects that `Policy.request` can write, besides the one that was calibrated."""
GATEWAY_PREFIXES = ("together_ai/", "openai/", "hosted_vllm/", "litellm_proxy/")
"""Prefix that LiteLLM adds to a model's name."""
NAMELESS = "(none)"
"""Entry of `response_models_seen` for replies that carried no model name."""
OTHER_PROMPT = "another prompt than the calibrated one"


class PolicyEditedWarning(UserWarning):
    """The policy file was changed after it was certified."""


class Decision(NamedTuple):
    """What to do with one reply of the cheap model. `status` and `model` say what the reply was, for the log."""

    action: str
    """"accept": use `answer`. "escalate": ask the strong model; `answer` is then only what the cheap model said."""
    answer: str | None
    confidence: float | None
    """On the policy's signal, in [0, 1]; None when it is unknown or not comparable."""
    calibrated_confidence: float | None
    """Probability that the answer is right, as calibrated; for people, the decision does not use it."""
    threshold: float | None
    reason: str
    status: str = "ok"
    """Status of the reply, as in calibration; "given" for a bare confidence."""
    model: str | None = None
    """Name of the model that the reply carries."""

    def to_dict(self) -> dict[str, Any]:
        """The six public fields, JSON-ready."""
        return {name: getattr(self, name) for name in _PUBLIC}


_PUBLIC = ("action", "answer", "confidence", "calibrated_confidence", "threshold", "reason")


class Policy:
    """A loaded policy; immutable, and safe to share between threads.

    `document` is the policy file's content. Raises DataError when a field contradicts what this version can compute.
    """

    def __init__(self, document: Mapping[str, Any], where: str = "policy") -> None:
        self.document = documents.checked(dict(document), where)
        self.where = where
        self.task: str = self.document["task"]
        self.verdict: str = self.document["verdict"]
        self.threshold: float | None = self.document["threshold"]
        self.edited = documents.edits(self.document)
        signal = self.document["signal"]
        self.signal: str | None = _known_signal(signal, where)
        self._learned = signal["params"] if self.signal == "learned" else None
        self._prompt: str | None = self.document["prompt_sha256"]
        self._models = frozenset(self.document["cheap"]["response_models_seen"])
        try:
            self._calibrator = Calibrator.from_numbers(self.document["calibrator"])
            self._answers = _answer_set(self.document)
            if self._learned is not None:
                check_learned(self._learned)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        fewest: int = self.document["cheap"].get("fewest_alternatives") or 0
        self._fewest = fewest if _reads_alternatives(self.signal, self._learned) else 0
        self._none = f"the policy has no threshold ({self.verdict}), so everything escalates"
        self.blanket = (
            Decision(ESCALATE, None, None, None, None, self._none, "not_asked") if self.threshold is None else None
        )
        """The decision that a policy without a threshold makes on every request; None if it has one."""

    def decide(
        self,
        completion: Any,
        *,
        options: int | Sequence[Any] | None = None,
        prompt_sha256: str | None = None,
        text: str | None = None,
        segment: str | int | None = None,
    ) -> Decision:
        """Decide on one completion: a mapping, JSON text, or the SDK's object.

        `options`: the row's options, or how many there are (kind choose; without them the reply escalates).
        `prompt_sha256`: digest of the prompt templates in use; when given it must be the calibrated one.
        `text`, `segment`: the request's own text and segment, for a learned signal that reads them: it escalates without
        (status no_text, no_segment), and where the segment is one that no fit row had (no_segment). A request whose segment
        is blank passes "". Never raises on any completion; raises UsageError only when the policy's confidences came from a
        table, which a reply cannot give.
        """
        if self.signal is None:
            raise UsageError(
                f"{self.where}: its confidences came from a table of predictions, so none can be read from a reply; "
                "use decide_confidence with a confidence computed in the same way"
            )
        try:
            answers = self.answer_set(options)
        except (TypeError, ValueError):
            return self._escalate("the row's options are not given, or not 2 to 26", status="no_options")
        if not isinstance(completion, str | bytes | Mapping):
            completion = _plain(completion)
        found = measure(completion, answers, learned=self._learned, only=self.signal, text=text, segment=segment)
        model = found.reply.model
        if found.status != "failed" and not self.knows_model(model):
            seen = ", ".join(sorted(self._models))
            return self._escalate(
                f"model {model!r} was not seen in calibration ({seen})", found.answer, found.status, model
            )
        if prompt_sha256 is not None and prompt_sha256 != self._prompt:
            return self._escalate(OTHER_PROMPT, found.answer, found.status, model)
        confidence = found.signals[self.signal]
        if confidence is None:
            asked = self._learned if found.status == "ok" else None
            if asked is not None and (lack := lacking(asked, text=text, segment=segment)) is not None:
                return self._escalate(f"no confidence: {lack.reason}", found.answer, lack.status, model)
            why = found.reasons.get(self.signal) or f"status {found.status}"
            reason = f"no confidence: {why}" + (f", {found.detail}" if found.detail else "")
            return self._escalate(reason, found.answer, found.status, model)
        if self._fewest and found.fewer_alternatives_than(self._fewest):
            return self._escalate(
                f"fewer alternatives than the {self._fewest} of calibration", found.answer, found.status, model
            )
        return self._decided(confidence, found.answer, found.status, model)

    def decide_confidence(self, value: float | None) -> Decision:
        """Decide on a confidence that was measured elsewhere, on the policy's own scale. None and NaN escalate."""
        if value is None or value != value:
            return self._escalate("no confidence", status="given")
        if not 0 <= value <= 1:
            return self._escalate(f"{value!r} is not a confidence in [0, 1]", status="given")
        return self._decided(float(value), None, "given", None)

    def request(
        self, role: str = "cheap", *, options: int | Sequence[Any] | None = None, dialect: str | None = None
    ) -> dict[str, Any]:
        """Fields of the request body that must be sent so that the confidence means the same: all but the messages.

        Model, sampling parameters and constraint as calibrated; for the cheap role also how logprobs are asked for.
        `options`: the row's options, or how many there are, where `asks_by_row`; UsageError without them.
        `dialect`: None is what was calibrated; "together" counts alternatives in `logprobs`; "openai" and "litellm" ask with
        `logprobs: true` and `top_logprobs`, and "openai" with `max_completion_tokens`.
        """
        side = self.document[role]
        if side["model"] is None:
            raise UsageError(f"{self.where}: the policy names no {role} model")
        body = {"model": side["model"], **_renamed(side["params"], side.get("length_form"))}
        if side.get("constrain"):
            body["response_format"] = response_format(self._allowed(options), side["constrain"])
        if dialect not in (None, *DIALECTS):
            raise UsageError(f"dialect {dialect!r} is unknown; there are {', '.join(DIALECTS)}")
        if role == "cheap":
            alternatives = max(1, side.get("top_logprobs") or 1)  # as in calibration
            form = side.get("logprobs_form") if dialect is None else "integer" if dialect == "together" else "boolean"
            if form == "boolean":
                body |= {"logprobs": True, "top_logprobs": alternatives}
            else:
                body |= {"logprobs": alternatives}
        if dialect == "openai" and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    @property
    def reads_text(self) -> bool:
        """Whether `decide` needs the request's text."""
        return reads_text(self._learned)

    @property
    def reads_segment(self) -> bool:
        """Whether `decide` needs the request's segment."""
        return reads_segment(self._learned)

    def knows_model(self, name: str | None) -> bool:
        """Whether a reply's model is one that calibration saw: by its own name, behind LiteLLM's prefix, or by the alias that the
        export gives it behind a gateway (`alias`)."""
        if not self._models or (name or NAMELESS) in self._models or name == alias(self.task, "cheap"):
            return True
        bare = next((name[len(p) :] for p in GATEWAY_PREFIXES if name is not None and name.startswith(p)), None)
        return bare in self._models

    def asks_by_row(self, role: str = "cheap") -> bool:
        """Whether `request` depends on the row's options: kind choose with a constraint."""
        return self._answers is None and bool(self.document[role].get("constrain"))

    def _allowed(self, options: int | Sequence[Any] | None) -> Sequence[str]:
        if self.document["labels"] is not None:
            return list(self.document["labels"])
        try:
            return self.answer_set(options).labels
        except (TypeError, ValueError):
            raise UsageError(
                f"{self.where}: the request allows only the row's answers, so it needs the row's options (2 to 26)"
            ) from None

    def answer_set(self, options: int | Sequence[Any] | None = None) -> AnswerSet:
        """The closed set of answers; kind choose needs the row's options. Raises ValueError without them."""
        return self._answers if self._answers is not None else AnswerSet.choose(options if options is not None else 0)

    def _decided(self, confidence: float, answer: str | None, status: str, model: str | None) -> Decision:
        calibrated, threshold = self._calibrator(confidence), self.threshold
        if threshold is None:
            return Decision(ESCALATE, answer, confidence, calibrated, None, self._none, status, model)
        if confidence < threshold:
            return Decision(
                ESCALATE, answer, confidence, calibrated, threshold, "confidence below the threshold", status, model
            )
        return Decision(
            ACCEPT, answer, confidence, calibrated, threshold, "confidence at or above the threshold", status, model
        )

    def _escalate(
        self, reason: str, answer: str | None = None, status: str = "ok", model: str | None = None
    ) -> Decision:
        return Decision(ESCALATE, answer, None, None, self.threshold, reason, status, model)


def alias(task: str, role: str) -> str:
    """The name that exports give a model behind a gateway; some gateways put it into their replies."""
    return f"{task}-{role}"


def load(path: str | Path) -> Policy:
    """Load a policy file.

    Raises UsageError when there is no such file, DataError when it is no policy of this schema or asks for a signal that
    this version does not compute. A file that was edited after it was written loads with a `PolicyEditedWarning` that
    names what changed, because its certificate is about something else.
    """
    policy = Policy(documents.read(path), str(path))
    if policy.edited:
        changes = "; ".join(_change(policy.document, name) for name in policy.edited)
        warnings.warn(
            f"{path}: edited after it was written: {changes}. The certificate does not cover this.",
            PolicyEditedWarning,
            stacklevel=2,
        )
    return policy


def _change(document: Mapping[str, Any], name: str) -> str:
    value: Any = document
    for key in name.split(".", 1):
        if not isinstance(value, Mapping) or key not in value:
            return f"{name} is gone" if name != "something" else "its digest does not match"
        value = value[key]
    text = documents.canonical(value).decode("utf-8", "replace")
    return f"{name} is now {text if len(text) <= 60 else text[:57] + '...'}"


def _known_signal(signal: Mapping[str, Any], where: str) -> str | None:
    name: str = signal["name"]
    if signal["version"] is None:
        return None
    if name not in SIGNALS:
        raise DataError(f"{where}: signal {name!r} is unknown to this version; known are {', '.join(SIGNALS)}")
    if signal["version"] != SIGNALS[name].version:
        raise DataError(
            f"{where}: calibrated on version {signal['version']} of signal {name}, this package computes version "
            f"{SIGNALS[name].version}; the threshold does not carry over, so run recommend again"
        )
    return name


def _reads_alternatives(signal: str | None, learned: Mapping[str, Any] | None) -> bool:
    """Whether a confidence depends on the alternatives. A learned model may have been fitted on signals that need none,
    and has then judged calibrated replies that came without."""
    if learned is None:
        return signal is not None and SIGNALS[signal].needs_alternatives > 0
    read = {name.removeprefix("logit_") for name in learned["features"]}
    return any(SIGNALS[name].needs_alternatives for name in read & SIGNALS.keys())


def _answer_set(document: Mapping[str, Any]) -> AnswerSet | None:
    labels = document["labels"]
    if document["kind"] == "judge":  # the label that means yes is written first
        return AnswerSet.judge() if labels is None else AnswerSet.judge(labels, labels[0])
    return None if labels is None else AnswerSet.classify(labels)


def _renamed(params: Mapping[str, Any], length: str | None) -> dict[str, Any]:
    """Sampling parameters with the bound on a reply under the name that the model knows."""
    if length != "max_completion_tokens" or "max_tokens" not in params:
        return dict(params)
    bounds = [params[name] for name in ("max_tokens", length) if params.get(name) is not None]
    return {k: v for k, v in params.items() if k not in ("max_tokens", length)} | {length: max(bounds)}


def _plain(completion: Any) -> Any:
    """The SDK's object as a mapping; anything else as it is, for `measure` to refuse by name."""
    dump = getattr(completion, "model_dump", None)
    return dump() if callable(dump) else completion


def request_digest(policy: Policy) -> str | None:
    """Short digest of the parameters that must be sent to the cheap model; None when the policy names no model."""
    if policy.document["cheap"]["model"] is None:
        return None
    return hashlib.sha256(documents.canonical(policy.request(options=2))).hexdigest()[:16]
