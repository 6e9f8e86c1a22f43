"""Loaded by schemathesis: the refusals of bodies that are valid under the schema."""

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
    *("ignore_eos", "min_tokens", "stop_token_ids"),
    *("tool_choice", "add_generation_prompt", "continue_final_message"),
}


@schemathesis.check
def valid_requests_are_served(ctx, response, case):
    error = response.json()["error"] if response.status_code == 400 else {"code": None}
    is_combined = (
        error["code"] == "invalid_parameter_combination" and error["param"] in _COMBINED
    )
    # The choice of a tool that is not offered; a variable that the template does not have.
    is_reference = error["code"] == "unsupported_value" and error["param"] == "tool_choice"
    is_variable = (error.get("param") or "").startswith("chat_template_kwargs.")
    is_known = is_combined or is_reference or is_variable
    if error["code"] not in _BEYOND_SCHEMAS and not is_known:
        positive_data_acceptance(ctx, response, case)
