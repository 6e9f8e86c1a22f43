"""The OpenAPI document, and schemathesis' attack on what it describes."""

import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from mlxnode.server import errors
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.formats.embeddings.schema import EmbeddingBody
from mlxnode.server.formats.messages.schema import MessagesBody, PromptBody
from mlxnode.server.formats.rerank.schema import RerankBody, ScoreBody
from mlxnode.server.formats.responses.schema import ResponsesBody
from mlxnode.server.formats.tokens.schema import ConversationBody, TextBody, TokensBody
from mlxnode.server.http.openapi import ERRORS

PATHS = {
    "/",
    "/detokenize",
    "/health",
    "/metrics",
    "/openapi.json",
    "/tokenize",
    "/v1/batches",
    "/v1/batches/{batch_id}",
    "/v1/batches/{batch_id}/cancel",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/figures",
    "/v1/files",
    "/v1/files/{file_id}",
    "/v1/files/{file_id}/content",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/{model_id}",
    "/v1/models/{model_id}/load",
    "/v1/models/{model_id}/unload",
    "/v1/requests",
    "/v1/requests/{request_id}/cancel",
    "/v1/rerank",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/responses/{response_id}",
    "/v1/responses/{response_id}/cancel",
    "/v1/responses/{response_id}/input_items",
    "/v1/score",
}
CHECKS = Path(__file__).parents[2] / "support" / "openapi_checks.py"
BODIES = (ChatBody, CompletionBody, EmbeddingBody, MessagesBody, PromptBody, ResponsesBody)
OTHER_BODIES = (RerankBody, ScoreBody, TextBody, ConversationBody, TokensBody)


def read(worker) -> dict:
    return httpx.get(f"{worker.url}/openapi.json", headers=worker.headers).json()


def references(value) -> set[str]:
    """All that ``value`` refers to."""
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set()


@pytest.fixture(scope="module")
def keyed_worker(start_worker, served_models):
    """With keys, but without limits, which would refuse what is valid."""
    with start_worker(served_models, {}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture(scope="module")
def strict_worker(start_worker, served_models):
    with start_worker(served_models, {}, {"strict_fields": True}) as worker:
        worker.connect_engine()
        yield worker


def test_openapi_has_every_path(worker):
    document = read(worker)
    assert document["openapi"] == "3.1.0" and set(document["paths"]) == PATHS
    assert set(document["paths"]["/v1/models"]) == {"get", "head", "parameters"}
    assert set(document["paths"]["/v1/embeddings"]) == {"post"}


def test_openapi_refers_to_what_it_has(worker):
    document = read(worker)
    assert len(references(document)) > 20
    for reference in references(document):
        place = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest.mark.parametrize("body", BODIES + OTHER_BODIES)
def test_openapi_has_every_parameter(worker, body):
    schema = read(worker)["components"]["schemas"][f"Request{body.__name__}"]
    declared = {field.alias or name for name, field in body.model_fields.items()}
    every = declared | {*body.neutral, *body.harmless, *body.spellings}
    documented = getattr(body, "documented", every)
    assert set(schema["properties"]) == documented <= every
    for name, values in body.neutral.items() if documented == every else ():
        described = schema["properties"][name]
        assert described == {} or described["enum"] == [*values, None]


def test_openapi_names_the_models_of_each_path(worker):
    schemas = read(worker)["components"]["schemas"]
    ids = [schemas[f"Request{b.__name__}"]["properties"]["model"]["enum"] for b in BODIES]
    chat, text, vectors = ["tiny-chat"], ["tiny-chat", "org/tiny-text"], ["tiny-embedding"]
    assert ids == [chat, text, vectors, chat, chat, chat]
    dimensions = schemas["RequestEmbeddingBody"]["properties"]["dimensions"]
    assert dimensions == {"enum": [4, 8, "4", "8", None]}


def test_openapi_names_the_models_that_score_and_those_that_have_tokens(worker):
    schemas = read(worker)["components"]["schemas"]
    bodies = [schemas[f"Request{body.__name__}"] for body in OTHER_BODIES]
    ids = [body["properties"]["model"]["enum"] for body in bodies]
    every = ["tiny-chat", "org/tiny-text", "tiny-embedding"]
    assert ids == [["tiny-embedding"], ["tiny-embedding"], every, ["tiny-chat"], every]
    # No model can be left out where several generate text.
    assert all("model" in body["required"] for body in bodies)


def test_openapi_tells_what_is_always_in_an_answer(worker):
    schemas = read(worker)["components"]["schemas"]
    assert {"object", "usage", "choices"} <= set(schemas["ChatCompletion"]["required"])
    assert "usage" not in schemas["ChatChunk"]["required"]


def test_openapi_follows_the_configuration(worker, plain_worker, strict_worker):
    document, plain, strict = read(worker), read(plain_worker), read(strict_worker)
    responses = [d["paths"]["/v1/embeddings"]["post"]["responses"] for d in (document, plain)]
    assert {"401", "429"} <= set(responses[0]) and not {"401", "429"} & set(responses[1])
    headers = [
        d["paths"]["/v1/embeddings"]["post"]["responses"]["200"]["headers"]
        for d in (document, plain)
    ]
    assert (
        "x-ratelimit-reset-tokens" in headers[0]
        and "x-ratelimit-reset-tokens" not in headers[1]
    )
    assert document["security"] and "security" not in plain
    assert document["paths"]["/health"]["get"]["security"] == []
    bodies = [d["components"]["schemas"]["RequestChatBody"] for d in (document, strict)]
    assert [body.get("additionalProperties") for body in bodies] == [None, False]


def test_openapi_needs_a_key_as_it_names_the_models(worker):
    assert httpx.get(f"{worker.url}/openapi.json").status_code == 401


def test_openapi_describes_every_error():
    kinds = set(errors.ApiError.__subclasses__()) - {errors.MethodRefused}
    assert kinds == set(ERRORS)


# One run each, so that none takes long; None: all other paths.
GROUPS = (
    r"^/v1/chat/",
    r"^/v1/messages",
    r"^/v1/responses",
    r"^/v1/(rerank|score)$",
    r"^/(de)?tokenize$",
    r"^/v1/(files|batches)",
)
# A worker alone answers these with 503: the figures are the supervisor's.
OF_A_NODE = r"^/v1/(figures|requests)"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("fixture", "phases"),
    [("keyed_worker", "coverage,fuzzing,stateful"), ("strict_worker", "fuzzing")],
)
@pytest.mark.parametrize("paths", [*GROUPS, None])
def test_schemathesis_finds_nothing(request, tmp_path, fixture, phases, paths):
    worker = request.getfixturevalue(fixture)
    worker.engine.step = 16  # a pipe queues 10,000 messages; 2,048 prompts may be asked at once
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{worker.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {worker.key}"),
            *(
                ("--exclude-path-regex", "|".join([*GROUPS, OF_A_NODE]))
                if paths is None
                else ("--include-path-regex", paths)
            ),
            *("--phases", phases, "--mode", "all", "--max-examples", "10", "--seed", "1"),
            *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
            *("--suppress-health-check", "all", "--generation-database", "none"),
            *("--request-timeout", "60"),
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=tmp_path,
        env={"SCHEMATHESIS_HOOKS": str(CHECKS)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_openapi_names_only_the_models_of_the_key_that_asks(worker):
    headers = {"authorization": "Bearer sk-narrow-0123456789abcd"}
    text = httpx.get(f"{worker.url}/openapi.json", headers=headers).text
    assert "org/tiny-text" in text and "tiny-chat" not in text
    assert "tiny-chat" in str(read(worker))
