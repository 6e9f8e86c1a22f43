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
# At most one form of an answer, and none with a parameter that says where it ends: as a schema,
# more alternatives than generators of test data can keep apart.
_FORMS = {
    *("guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("ignore_eos", "min_tokens", "stop_token_ids"),
}


@schemathesis.check
def valid_requests_are_served(ctx, response, case):
    error = response.json()["error"] if response.status_code == 400 else {"code": None}
    is_form = error["code"] == "invalid_parameter_combination" and error["param"] in _FORMS
    if error["code"] not in _BEYOND_SCHEMAS and not is_form:
        positive_data_acceptance(ctx, response, case)
