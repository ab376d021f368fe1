"""What one attempt means: the table behind every retry, refusal and stop."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.collect.providers.provider import Attempt
from pipeline.collect.sending.response_class import Action, judge, message_in
from pipeline.errors import AccessError, CreditExhausted, KeyRefused

TOGETHERS_PACE = {
    "message": "You have been rate limited. Your rate limit is 60 queries per minute. Please navigate to "
    "https://api.together.xyz/settings/billing to upgrade to a paid plan.",
    "type": "credit_limit",
}
OPENAIS_PACE = {
    "message": "Rate limit reached for gpt-4o-mini in organization org-x on requests per min. Limit: 3 / min. Please try again in 20s. "
    "You can increase your rate limit by adding a payment method to your account at https://platform.openai.com/account/billing.",
    "type": "requests",
    "code": "rate_limit_exceeded",
}
QUOTA = {"message": "Your account cannot be charged", "code": "insufficient_quota"}

REFUSALS = [
    (400, "unknown parameter safety_model", Action.REJECT, "http_400", None),
    (
        400,
        "The response was filtered due to the prompt triggering the content management policy",
        Action.REJECT,
        "filtered",
        None,
    ),
    (403, "Request blocked by our safety system", Action.REJECT, "filtered", None),
    (
        400,
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097",
        Action.REJECT,
        "too_long",
        None,
    ),
    (403, "Input token count + max_tokens exceeds the context window", Action.REJECT, "too_long", None),
    (403, "You do not have access to this model", Action.STOP, "http_403", AccessError),
    (401, "", Action.STOP, "http_401", KeyRefused),
    (402, "", Action.STOP, "credit", CreditExhausted),
    (404, "", Action.STOP, "http_404", AccessError),
    (307, "", Action.STOP, "http_307", AccessError),
    (405, "", Action.REJECT, "http_405", None),
    (408, "", Action.RETRY, "http_408", None),
    (409, "", Action.RETRY, "http_409", None),
    (413, "", Action.REJECT, "too_long", None),
    (413, "<html>Request Entity Too Large</html>", Action.REJECT, "too_long", None),
    (429, "slow down", Action.WAIT, "http_429", None),
    (
        429,
        "You exceeded your current quota, please check your plan and billing details",
        Action.STOP,
        "credit",
        CreditExhausted,
    ),
    (429, "Credit limit exceeded, please add credits", Action.STOP, "credit", CreditExhausted),
    (429, QUOTA, Action.STOP, "credit", CreditExhausted),
    (429, TOGETHERS_PACE, Action.WAIT, "http_429", None),
    (429, OPENAIS_PACE, Action.WAIT, "http_429", None),
    (429, "Too busy; see our credit packs for more", Action.WAIT, "http_429", None),
    (403, "Please add a payment method under billing", Action.STOP, "credit", CreditExhausted),
    (503, "overloaded", Action.RETRY, "http_503", None),
    (529, "", Action.RETRY, "http_529", None),
]


@pytest.mark.parametrize(("status", "message", "action", "reason", "error"), REFUSALS)
def test_a_refusal_means_what_the_service_documents(status, message, action, reason, error):
    said = message if isinstance(message, dict) else {"message": message}
    outcome = judge(Attempt("reply", status, json.dumps({"error": said}).encode()))
    assert (outcome.action, outcome.reason, outcome.error) == (action, reason, error)


@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms"])
def test_a_service_that_says_when_to_come_back_is_waited_for_whatever_its_words(header):
    body = b"You exceeded your current quota"
    assert judge(Attempt("reply", 429, body)).action is Action.STOP
    assert judge(Attempt("reply", 429, body, {header: "2"})).action is Action.WAIT


@given(body=st.binary(max_size=200), status=st.integers(100, 599))
def test_no_body_whatever_makes_it_fail(body, status):
    outcome = judge(Attempt("reply", status, body))
    assert (outcome.action is Action.STOP) == (outcome.error is not None)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "message",
                        "content",
                        "usage",
                        "error",
                        "finish_reason",
                        "prompt_tokens",
                        "completion_tokens",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_no_json_whatever_makes_it_fail_and_only_whole_counts_are_a_known_usage(value):
    outcome = judge(Attempt("reply", 200, json.dumps(value).encode()))
    assert outcome.state in ("ok", "invalid")
    if outcome.usage.known:
        usage = value["usage"]
        assert type(usage["prompt_tokens"]) is type(usage["completion_tokens"]) is int


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "a\\n b"}}', "a b"),
        (b'{"detail": "x"}', "x"),
        (b'{"error": "y"}', "y"),
        (b"plain  text", "plain text"),
        (b"", ""),
        (b'{"error": {"code": 5}}', '{"code": 5}'),
    ],
)
def test_the_message_of_an_error_body_is_one_line(body, text):
    assert message_in(body) == text


def test_a_lone_surrogate_in_a_reply_is_no_fault():
    body = b'{"choices": [{"message": {"content": "\\ud83d"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
    assert judge(Attempt("reply", 200, body)).action is Action.KEEP
