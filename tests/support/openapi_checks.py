"""Loaded by schemathesis: the refusals of bodies that are valid under the schema.

And what of the schema it tests: its longest lists have no bounds there.
"""

import re

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# These depend on the model and its tokenizer, which a schema does not know.
_BEYOND_SCHEMAS = {
    "completion_window_too_long",
    "context_length_exceeded",
    "empty_prompt",
    "invalid_grammar",
    "invalid_token_id",
    "max_tokens_per_request",
    "previous_response_not_found",
    "response_store_off",
    "too_many_choices",
}
# Rules that are not in the schema: with clauses for all rules, it has more alternatives than
# generators of test data can keep apart. A request has at most one constraint, and no
# parameter that contradicts the constraint.
_COMBINED = {
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("structured_outputs", "structured_outputs.json", "structured_outputs.regex"),
    *("structured_outputs.choice", "structured_outputs.grammar"),
    *("json_schema", "grammar", "format", "functions", "function_call"),
    *("ignore_eos", "min_tokens", "stop_token_ids"),
    *("tool_choice", "add_generation_prompt", "continue_final_message"),
    "text_2",  # as many texts as text_1, or any number for a single one
}
# The coverage phase builds a list beyond each bound, and lists of such lists: 10,001 messages
# of 10,001 parts are gigabytes of JSON, which no client can build in the time of a test.
# tests/server/reading/test_bounds.py sends one item too many to each of these lists.
_LONGEST_BUILT = 2048


@schemathesis.hook
def before_load_schema(context, raw_schema):
    todo = [raw_schema["components"]["schemas"]]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            bound = part.get("maxItems")
            if isinstance(bound, int) and bound > _LONGEST_BUILT:
                del part["maxItems"]
            todo += part.values()
        elif isinstance(part, list):
            todo += part


# What is read as an empty list or object, a number or a boolean (mlxnode.server.formats.loose).
_LOOSE_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|[Tt]rue|[Ff]alse")
# A body is read in at most six rounds, each of which mends such values in the first invalid
# item of a list, and at the same fields of other items. A schema cannot count the rounds.
_ROUNDS = 6


def _value_at(body, error):
    """The value that an error names."""
    value = body
    for part in re.findall(r"[^.\[\]]+", error["param"] or ""):
        if isinstance(value, list) and part.isdigit():
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    return value


def _is_of_text(body, error) -> bool:
    """True for a number or an object that is sent as text: a schema of texts has no bounds."""
    value = _value_at(body, error)
    is_object = isinstance(value, str) and value.lstrip().startswith("{")
    is_bound = re.search("(min|max)_value$", error["code"]) is not None
    return is_object or (isinstance(value, str) and is_bound)


def _is_loose(value) -> bool:
    if isinstance(value, str):
        return _LOOSE_TEXT.fullmatch(value) is not None
    return value in ([], {})


def _needs_more_rounds(body, error) -> bool:
    """True if a loose value was refused in a body that has one for each round, or more."""
    if error["code"] != "invalid_type" or not _is_loose(_value_at(body, error)):
        return False
    count, todo = 0, [body]
    while todo:
        value = todo.pop()
        count += _is_loose(value)
        if isinstance(value, (dict, list)):
            todo += value.values() if isinstance(value, dict) else value
    return count >= _ROUNDS


def _error_of(response) -> dict:
    """Code and param of a refusal; Anthropic's envelope has them among the details."""
    if response.status_code != 400 or not response.content:  # an answer to HEAD
        return {"code": None}
    error = response.json()["error"]
    if "code" in error:
        return error
    details = error.get("details") or {}
    return {"code": details.get("error_code"), "param": details.get("param")}


@schemathesis.check
def valid_requests_are_served(ctx, response, case):
    error = _error_of(response)
    is_combined = (
        error["code"] == "invalid_parameter_combination" and error["param"] in _COMBINED
    )
    # The choice of a tool that is not offered; a variable that the template does not have.
    choices = ("tool_choice", "function_call")
    # The vectors of a model, which may be normalized in any case.
    vectors = ("dimensions", "normalize")
    is_reference = error["code"] == "unsupported_value" and error["param"] in choices + vectors
    is_variable = (error.get("param") or "").startswith("chat_template_kwargs.")
    # A regex is a text, and a schema an object; a model adds tokens, which have to stay.
    is_form = error.get("param") in ("response_format.value", "truncate_prompt_tokens")
    is_known = is_combined or is_reference or is_variable or is_form
    if error["code"] is None or (
        error["code"] not in _BEYOND_SCHEMAS
        and not is_known
        and not _is_of_text(case.body, error)
        and not _needs_more_rounds(case.body, error)
    ):
        positive_data_acceptance(ctx, response, case)
