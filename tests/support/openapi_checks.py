"""Loaded by schemathesis: the refusals of bodies that are valid under the schema."""

import re

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# These depend on the model and its tokenizer, which a schema does not know.
_BEYOND_SCHEMAS = {
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


def _is_of_text(body, error) -> bool:
    """True for a number or an object that is sent as text: a schema of texts has no bounds."""
    value = body
    for part in re.findall(r"[^.\[\]]+", error["param"] or ""):
        if isinstance(value, list) and part.isdigit():
            value = value[int(part)]
        else:
            value = value.get(part) if isinstance(value, dict) else None
    is_object = isinstance(value, str) and value.lstrip().startswith("{")
    is_bound = re.search("(min|max)_value$", error["code"]) is not None
    return is_object or (isinstance(value, str) and is_bound)


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
    ):
        positive_data_acceptance(ctx, response, case)
