"""/tokenize and /detokenize, as vLLM's and llama.cpp's clients use them."""

import pytest
from support import tiny
from support.contract import chat, error_of, post

from mlxnode.messages.data import Generate
from mlxnode.models.served import ServedModel
from mlxnode.server.routes.tokens import MAX_TOKENS

TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "hé <|im_end|>"},
]


def tokenize(worker, path: str = TOKENIZE, **body):
    return post(worker, path, {"model": "tiny-chat"} | body)


@pytest.fixture(scope="module")
def small_worker(start_worker, tool_model, tmp_path_factory):
    """One model that generates text, and two others."""
    folder = tmp_path_factory.mktemp("tokens")
    made = {
        "chat": tool_model.folder,
        "embedding": tiny.make_cross_encoder(folder / "cross"),
        "rerank": folder / "cross",
    }
    models = [
        ServedModel(id, id, path, path, "any", 512, None, None, 1, 1)
        for id, path in made.items()
    ]
    with start_worker(models, {"require_auth": False}) as worker:
        worker.connect_engine()
        yield worker


# --- texts ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [TOKENIZE, "/v1/tokenize", "/tokenize/"])
def test_tokenize_a_prompt(worker, path):
    body = tokenize(worker, path, prompt="hé!").json()
    ids = worker.engine.ids("hé!")
    assert body == {"count": 4, "max_model_len": 1024, "tokens": ids, "token_strs": None}


@pytest.mark.parametrize("param", ["prompt", "content"])
def test_tokenize_takes_texts_beyond_the_context_but_not_of_millions(worker, param):
    assert tokenize(worker, **{param: "a" * MAX_TOKENS}).json()["count"] == MAX_TOKENS
    for length in (MAX_TOKENS + 1, 900_000):
        answer = tokenize(worker, **{param: "a" * length})
        assert answer.status_code == 400
        error = error_of(answer)
        assert error["param"] == param and error["code"] == "too_many_tokens"
        assert str(MAX_TOKENS) in error["message"]


def test_tokenize_tells_the_entries_of_the_vocabulary(worker):
    body = tokenize(worker, prompt="é <|im_end|>", return_token_strs=True).json()
    assert body["token_strs"] == ["Ã", "©", "Ġ", "<|im_end|>"]
    assert len(body["tokens"]) == body["count"] == 4


def test_tokenize_tells_the_pieces(worker):
    tokens = tokenize(worker, content="aé", with_pieces=True).json()["tokens"]
    a, first, second = worker.engine.ids("aé")
    assert tokens == [
        {"id": a, "piece": "a"},
        {"id": first, "piece": [0xC3]},
        {"id": second, "piece": [0xA9]},
    ]


@pytest.mark.parametrize("model", ["embedding", "rerank"])
@pytest.mark.parametrize(
    ("options", "is_special"),
    [
        ({"prompt": "ab"}, True),  # vLLM's default
        ({"prompt": "ab", "add_special_tokens": False}, False),
        ({"content": "ab"}, False),  # llama.cpp's default
        ({"content": "ab", "add_special": True}, True),
    ],
)
def test_tokenize_adds_special_tokens_as_asked(small_worker, model, options, is_special):
    tokens = post(small_worker, TOKENIZE, {"model": model} | options).json()["tokens"]
    ids = small_worker.engine.ids("ab")
    assert tokens == ([0, *ids, tiny.EOS_ID] if is_special else ids)


def test_tokenize_needs_no_model_where_one_generates_text(small_worker):
    body = post(small_worker, TOKENIZE, {"prompt": "ab"}).json()
    assert body["tokens"] == small_worker.engine.ids("ab")
    body = post(small_worker, TOKENIZE, {"messages": MESSAGES}).json()
    assert body["count"] == len(body["tokens"]) > 20
    assert post(small_worker, DETOKENIZE, {"tokens": [5]}).status_code == 200


def test_tokenize_of_a_large_text(worker):
    body = tokenize(worker, prompt="word " * 20_000).json()
    assert body["count"] == len(body["tokens"]) == 100_000


# --- conversations --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"add_generation_prompt": False},
        {
            "messages": [*MESSAGES, {"role": "assistant", "content": "Well"}],
            "continue_final_message": True,
        },
        {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]},
    ],
)
def test_tokenize_a_conversation_as_chat_does(worker, options):
    options = {"messages": MESSAGES} | options
    tokens = tokenize(worker, **options).json()["tokens"]
    extra = {key: options.pop(key) for key in list(options) if key not in ("messages", "tools")}
    chat(worker, **options, extra_body=extra)
    assert worker.engine.next(Generate).prompt == tokens


def test_tokenize_sets_variables_of_the_template(small_worker):
    body = {"model": "chat", "messages": MESSAGES}
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    usual, silent = (post(small_worker, TOKENIZE, body | extra).json() for extra in ({}, off))
    text = post(small_worker, DETOKENIZE, {"tokens": silent["tokens"]}).json()["prompt"]
    assert text.endswith("<think></think>") and silent["count"] != usual["count"]


# --- back to a text -------------------------------------------------------------------


@pytest.mark.parametrize("path", [DETOKENIZE, "/v1/detokenize"])
@pytest.mark.parametrize("text", ["", "hé 東京 🙂", "<|im_start|>user\n"])
def test_detokenize_is_the_way_back(worker, path, text):
    tokens = tokenize(worker, prompt=text).json()["tokens"]
    body = tokenize(worker, path, tokens=tokens).json()
    assert body == {"prompt": text, "content": text}


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (TOKENIZE, {}, "prompt"),
        (TOKENIZE, {"prompt": 5}, "prompt"),
        (TOKENIZE, {"prompt": ["a"]}, "prompt"),
        (TOKENIZE, {"messages": []}, "messages"),
        (TOKENIZE, {"messages": MESSAGES, "model": "tiny-embedding"}, "model"),
        (TOKENIZE, {"messages": MESSAGES, "model": None}, "model"),
        (TOKENIZE, {"messages": MESSAGES, "add_special_tokens": True}, "add_special_tokens"),
        (TOKENIZE, {"prompt": "a", "model": None}, "model"),
        (TOKENIZE, {"content": "a", "parse_special": False}, "parse_special"),
        (DETOKENIZE, {}, "tokens"),
        (DETOKENIZE, {"tokens": [5, 259]}, "tokens"),
        (DETOKENIZE, {"tokens": [5, -1]}, "tokens[1]"),
        (DETOKENIZE, {"tokens": [5, "five"]}, "tokens[1]"),
        (DETOKENIZE, {"tokens": [2**40]}, "tokens[0]"),
    ],
)
def test_tokens_refuse_by_name(worker, path, body, param):
    response = tokenize(worker, path, **body)
    assert response.status_code == 400 and error_of(response)["param"] == param


def test_tokens_need_a_key_and_a_known_model(worker):
    for path in (TOKENIZE, DETOKENIZE):
        assert post(worker, path, {}, authorization="Bearer no").status_code == 401
        body = {"model": "none", "prompt": "a", "tokens": [5]}
        assert post(worker, path, body).status_code == 404


def test_tokenize_names_what_changes_nothing(worker):
    response = tokenize(worker, prompt="a", content="b", colour="red")
    assert response.headers["x-mlxnode-ignored"] == "colour, content"
