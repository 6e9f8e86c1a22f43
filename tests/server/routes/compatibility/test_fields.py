"""Fields of docs/compatibility.md: limits, stops, sampling, and what changes nothing."""

import pytest
from support.contract import CHAT, CHATS, COMPLETION, TEXTS, asked, error_of, post

# --- limits and stops -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 9, "max_completion_tokens": 9}, 9),
        ({"max_tokens": 9, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 6, "max_completion_tokens": 7}, 6),
        ({"max_tokens": -1, "max_completion_tokens": 7}, 7),
        ({"max_tokens": "8"}, 8),
        ({"n_predict": 5}, 5),
        ({"num_predict": 5}, 5),
        ({"max_new_tokens": 5, "max_tokens": None}, 5),
    ],
)
def test_every_spelling_of_the_limit_is_understood(plain_worker, fields, expected):
    message, ignored = asked(plain_worker, **fields)
    assert (message.max_tokens, ignored) == (expected, None)


@pytest.mark.parametrize(
    "fields", [{"max_tokens": -1}, {"max_completion_tokens": -1}, {"n_predict": -1}]
)
def test_a_limit_of_minus_one_is_no_limit(plain_worker, fields):
    unlimited, _ = asked(plain_worker)
    assert asked(plain_worker, **fields)[0].max_tokens == unlimited.max_tokens


@pytest.mark.parametrize("name", ["max_tokens", "n_predict"])
def test_a_limit_of_minus_one_is_more_than_the_default_of_completions(plain_worker, name):
    default, _ = asked(plain_worker, TEXTS, COMPLETION)
    assert default.max_tokens == 16
    message, ignored = asked(plain_worker, TEXTS, COMPLETION | {name: -1})
    assert message.max_tokens > 16 and ignored is None


@pytest.mark.parametrize(
    ("logprobs", "expected"), [(True, 0), (False, None), ("true", 0), ("2", 2), (0, 0)]
)
def test_logprobs_of_completions_may_be_a_boolean(plain_worker, logprobs, expected):
    message, _ = asked(plain_worker, TEXTS, COMPLETION | {"logprobs": logprobs})
    assert message.sampling.top_logprobs == expected


@pytest.mark.parametrize(
    ("stop", "content"),
    [
        ("", "Hello!"),
        ([""], "Hello!"),
        ([], "Hello!"),
        (["", "l"], "He"),
        ([*"xyzuvwabcl"], "He"),
        (["zz"] * 63 + ["o"], "Hell"),
    ],
)
@pytest.mark.parametrize("name", ["stop", "stop_sequences"])
def test_many_stops_and_empty_ones_are_understood(plain_worker, name, stop, content):
    response = post(plain_worker, CHATS, CHAT | {name: stop})
    assert response.json()["choices"][0]["message"]["content"] == content


# --- fields that change nothing -------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"store": True}, "store"),
        ({"store": False, "verbosity": "medium", "prompt_cache_key": "k"}, None),
        ({"verbosity": "high"}, "verbosity"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "auto"}, None),
        ({"stream_options": {"include_usage": True}}, None),
        ({"stream_options": {"include_obfuscation": False}}, None),
        (
            {"stream_options": {"include_obfuscation": True}},
            "stream_options.include_obfuscation",
        ),
        ({"metadata": {"session": 5, "tags": ["x" * 600]}}, None),
        ({"user": 7}, None),
        ({"logprobs": False, "top_logprobs": 3}, "top_logprobs"),
        ({"guided_json": {}, "guided_decoding_backend": "auto"}, "guided_decoding_backend"),
        ({"max_tokens": 4, "n_predict": 6}, "n_predict"),
        ({"max_tokens": 4, "n_predict": 4}, None),
        ({"dry_multiplier": 0, "typical_p": 1, "xtc_probability": 0, "options": {}}, ...),
    ],
)
def test_what_changes_nothing_is_accepted_and_named(plain_worker, fields, ignored):
    named = ", ".join(fields) if ignored is ... else ignored
    assert asked(plain_worker, **fields)[1] == named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"best_of": 3}, "best_of"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(plain_worker, fields, param):
    response = post(plain_worker, CHATS, CHAT | fields)
    assert response.status_code == 400
    assert error_of(response)["param"] == param


# --- sampling -------------------------------------------------------------------------


def test_sampling_fields_of_other_servers_are_understood(plain_worker):
    message, ignored = asked(plain_worker, repeat_penalty=1.25, random_seed=5)
    assert (message.sampling.repetition_penalty, message.sampling.seed) == (1.25, 5)
    assert ignored is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_logprobs": 2}, 2),
        ({"logprobs": 3}, 3),
        ({"logprobs": True}, 0),
        ({"logprobs": "true", "top_logprobs": "4"}, 4),
        ({"logprobs": None, "top_logprobs": 0}, None),
    ],
)
def test_logprobs_are_asked_for_in_one_field_or_two(plain_worker, fields, expected):
    message, _ = asked(plain_worker, **fields)
    assert message.sampling.top_logprobs == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": "0.5", "top_p": "0.25", "seed": "7", "stream": "false"},
        {"temperature": 0.5, "top_p": 0.25, "seed": 7.0, "tools": {}, "logit_bias": []},
        {"temperature": "5e-1", "top_p": "0.25", "seed": 7, "stream_options": []},
        {"temperature": 0.5, "top_p": "0.25", "seed": "7", "chat_template_kwargs": []},
    ],
)
def test_values_of_another_type_with_one_meaning_are_understood(plain_worker, fields):
    message, ignored = asked(plain_worker, **fields)
    sampling = message.sampling
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.25, 7)
    assert ignored is None


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"temperature": "warm"}, "temperature", "invalid_type"),
        ({"temperature": "3"}, "temperature", "decimal_above_max_value"),
        ({"seed": "1.5"}, "seed", "invalid_type"),
        ({"stream": "yes"}, "stream", "invalid_type"),
        ({"stream": 1}, "stream", "invalid_type"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"tools": {"a": 1}}, "tools", "invalid_type"),
        ({"stream_options": ["include_usage"]}, "stream_options", "invalid_type"),
        ({"messages": {}}, "messages", "array_below_min_length"),
        ({"repeat_penalty": "a"}, "repeat_penalty", "invalid_type"),
        ({"repetition_penalty": 1, "repeat_penalty": "a"}, "repeat_penalty", "invalid_type"),
    ],
)
def test_values_with_no_single_meaning_are_refused(plain_worker, fields, param, code):
    response = post(plain_worker, CHATS, CHAT | fields)
    error = error_of(response)
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
