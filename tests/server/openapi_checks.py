"""Loaded by schemathesis: what is no fault although a schema allows it."""

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# What no schema can say: it depends on the model, on its tokenizer, on how a grammar compiles,
# or on how two numbers compare.
_CODES = {
    "context_length_exceeded",
    "empty_prompt",
    "invalid_parameter_combination",
    "invalid_token_id",
    "invalid_value",
    "max_tokens_per_request",
}
_PARAMS = {"best_of"}  # at least n


@schemathesis.check
def valid_requests_are_served(ctx, response, case):
    if response.status_code == 400:
        error = response.json()["error"]
        if error["code"] in _CODES or error["param"] in _PARAMS:
            return
    positive_data_acceptance(ctx, response, case)
