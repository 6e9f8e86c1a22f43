"""Inputs of embeddings: too long ones, token ids of other tokenizers, other spellings."""

import dataclasses
import math
import shutil

import pytest
from support import contract, tiny
from support.contract import EMBEDDING, VECTORS, error_of, post
from tokenizers import Tokenizer, processors

from mlxnode.messages.data import Embed

START, END = 1, 2  # the special tokens around an input
LIMIT = 64


@pytest.fixture(scope="module")
def framed_worker(start_worker, served_models, tmp_path_factory):
    """Serves "tiny-embedding" with tokens around each input, as BERT has, by three settings."""
    folder = tmp_path_factory.mktemp("models") / "framed"
    shutil.copytree(served_models[2].folder, folder)
    file = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    start, end = tiny.SPECIAL_TOKENS[START], tiny.SPECIAL_TOKENS[END]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, START), (end, END)]
    )
    tokenizer.save(file)
    framed = dataclasses.replace(served_models[2], folder=folder)
    models = [
        framed,
        dataclasses.replace(framed, id="cutting", truncate_inputs=True),
        dataclasses.replace(framed, id="trusting", allow_bare_token_ids=True),
        dataclasses.replace(served_models[2], id="frameless"),
    ]
    with start_worker(models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


@pytest.fixture
def framed(framed_worker):
    framed_worker.settle()
    return framed_worker


def embedded(worker, **fields) -> list[list[int]]:
    """The token ids that the engine gets for a request."""
    response = contract.accepted(worker, VECTORS, EMBEDDING | fields)
    assert "x-mlxnode-ignored" not in response.headers
    inputs = worker.engine.next(Embed).inputs
    assert response.json()["usage"]["prompt_tokens"] == sum(map(len, inputs))
    return inputs


def refused(worker, **fields) -> dict:
    response = contract.refused(worker, VECTORS, EMBEDDING | fields)
    assert worker.engine.received.empty()
    return error_of(response)


# --- too long -------------------------------------------------------------------------

AT_END = [
    {"truncate": True},
    {"truncate": "true"},
    {"truncate": "END"},
    {"truncate": "Right"},
    {"truncation": True},
    {"truncate_prompt_tokens": -1},
    {"truncate_prompt_tokens": 9999},
    {"truncate": True, "truncation_direction": "Right"},
]
AT_START = [
    {"truncate": "START"},
    {"truncate": "left"},
    {"truncate": True, "truncation_direction": "Left"},
    {"truncate_prompt_tokens": -1, "truncation_side": "left"},
]


@pytest.mark.parametrize("fields", AT_END)
def test_a_long_input_is_cut_at_its_end(framed, fields):
    text = "a" * 40 + "b" * 40
    [ids] = embedded(framed, input=text, **fields)
    assert ids == [START, *framed.engine.ids(text)[: LIMIT - 2], END]


@pytest.mark.parametrize("fields", AT_START)
def test_a_long_input_is_cut_at_its_start(framed, fields):
    text = "a" * 40 + "b" * 40
    ids = embedded(framed, input=[text, "c"], **fields)
    assert ids[0] == [START, *framed.engine.ids(text)[2 - LIMIT :], END]
    assert ids[1] == [START, *framed.engine.ids("c"), END]


def test_the_limit_of_a_request_is_below_that_of_the_model(framed):
    ids = embedded(framed, input=["abcdef", "x"], truncate_prompt_tokens=4)
    assert ids == [
        [START, *framed.engine.ids("ab"), END],
        [START, *framed.engine.ids("x"), END],
    ]
    error = refused(framed, truncate_prompt_tokens=2)
    assert error["param"] == "truncate_prompt_tokens" and ">= 3" in error["message"]
    assert refused(framed, truncate_prompt_tokens=-2)["param"] == "truncate_prompt_tokens"


@pytest.mark.parametrize(
    "fields", [{}, {"truncate": False}, {"truncate": "NONE"}, {"truncation": False}]
)
def test_a_long_input_is_refused_by_default(framed, fields):
    error = refused(framed, input="x" * 80, **fields)
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")
    assert '"truncate": true' in error["message"]


def test_the_configuration_can_have_long_inputs_cut(framed):
    [ids] = embedded(framed, model="cutting", input="x" * 80)
    assert len(ids) == LIMIT and ids[-1] == END
    error = refused(framed, model="cutting", input="x" * 80, truncate=False)
    assert error["code"] == "context_length_exceeded"


def test_long_token_ids_are_cut_within_their_special_tokens(framed):
    ids = [START, *range(10, 90), END]
    assert embedded(framed, input=ids, truncate=True) == [[*ids[: LIMIT - 1], END]]
    assert embedded(framed, input=[ids], truncate="START") == [[START, *ids[1 - LIMIT :]]]


# --- token ids of another tokenizer ---------------------------------------------------


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([15, 16, 17], "input"),
        ([[START, 15, END], [15, 16]], "input[1]"),
        ([[START, 15, 16]], "input[0]"),
        ([[15, 16, END]], "input[0]"),
        ([[START]], "input[0]"),
    ],
)
def test_token_ids_without_the_special_tokens_are_refused(framed, value, param):
    error = refused(framed, input=value)
    assert (error["param"], error["code"]) == (param, "foreign_token_ids")
    for told in ("check_embedding_ctx_length=False", "allow_bare_token_ids", "[1]", "[2]"):
        assert told in error["message"]


def test_token_ids_as_the_tokenizer_gives_them_are_embedded(framed):
    ids = [START, *framed.engine.ids("hello"), END]
    assert embedded(framed, input=ids) == embedded(framed, input="hello") == [ids]
    assert embedded(framed, input=[ids, [START, END]]) == [ids, [START, END]]


def test_the_configuration_can_allow_bare_token_ids(framed):
    assert embedded(framed, model="trusting", input=[15, 16]) == [[15, 16]]
    assert len(embedded(framed, model="trusting", input=[15] * 80, truncate=True)[0]) == LIMIT


def test_a_tokenizer_that_adds_nothing_takes_all_its_ids(framed):
    assert embedded(framed, model="frameless", input=[15, 16]) == [[15, 16]]
    error = refused(framed, model="frameless", input=[15, 999])
    assert error["code"] == "invalid_token_id"


# --- other spellings ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dimensions", "output_dimension"])
def test_every_name_of_the_dimensions_is_understood(framed, name):
    response = post(framed, VECTORS, EMBEDDING | {name: 4})
    assert len(response.json()["data"][0]["embedding"]) == 4
    assert framed.engine.next(Embed).dimensions == 4
    assert refused(framed, **{name: 5})["param"] == "dimensions"


@pytest.mark.parametrize("name", ["normalize", "normalized"])
def test_vectors_are_normalized_on_request(framed, name):
    response = post(framed, VECTORS, EMBEDDING | {name: True, "input": ["a", "bcd"]})
    for item in response.json()["data"]:
        assert math.isclose(math.hypot(*item["embedding"]), 1, rel_tol=1e-6)
    assert response.headers.get("x-mlxnode-ignored") is None


def test_vectors_of_a_model_that_normalizes_cannot_be_had_raw(framed):
    error = refused(framed, normalize=False)
    assert (error["param"], error["code"]) == ("normalize", "unsupported_value")


def test_notes_about_embeddings_are_named(framed):
    notes = {"input_type": "query", "task": "retrieval.query"}
    response = post(framed, VECTORS, EMBEDDING | notes)
    assert response.status_code == 200
    assert response.headers["x-mlxnode-ignored"] == "input_type, task"
