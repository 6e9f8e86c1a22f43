"""Loaded by schemathesis: what is no fault although a schema allows it."""

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# Depends on the model and its tokenizer; no schema can say it.
_BEYOND_SCHEMAS = {
    "context_length_exceeded",
    "empty_prompt",
    "invalid_grammar",
    "invalid_token_id",
    "max_tokens_per_request",
    "too_many_choices",
}
# What contradicts something else: as a schema, more alternatives than generators of test data
# can keep apart. At most one form of an answer, none with a parameter that says where it ends.
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
    # A tool that is not among those offered, a variable that this template does not have.
    is_reference = error["code"] == "unsupported_value" and error["param"] == "tool_choice"
    is_variable = (error.get("param") or "").startswith("chat_template_kwargs.")
    is_known = is_combined or is_reference or is_variable
    if error["code"] not in _BEYOND_SCHEMAS and not is_known:
        positive_data_acceptance(ctx, response, case)
