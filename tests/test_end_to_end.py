"""The whole node on the real demo models, through curl and the OpenAI SDK."""

import asyncio
import json
import math
import os
import signal
import subprocess
import threading

import httpx2 as httpx
import jsonschema
import openai
import pytest
from pydantic import BaseModel, Field
from support.node_process import API_KEY, CHAT, CONFIG, EMBEDDING, NodeProcess, is_running
from support.random_schemas import SchemaMaker, closed

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def node(tmp_path_factory, demo_chat, demo_embedding):
    with NodeProcess(tmp_path_factory.mktemp("node")) as process:
        process.wait_ready()
        yield process


@pytest.fixture
def client(node):
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key=API_KEY, max_retries=0) as client:
        yield client


def curl(*arguments: str) -> tuple[int, str]:
    """Status and body."""
    command = ["curl", "-sS", "-w", "\n%{http_code}", *arguments]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    body, _, status = output.rpartition("\n")
    return int(status), body


def ask(client: openai.OpenAI, **parameters):
    return client.chat.completions.create(
        **(
            {"model": CHAT, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
            | parameters
        )
    )


def test_chat_answers_in_words(client):
    answer = ask(client)
    assert "Paris" in answer.choices[0].message.content
    assert (
        answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    )
    assert answer.choices[0].finish_reason in ("stop", "length")


def test_chat_stream_brings_the_same_text(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.long
async def test_answers_under_a_schema_always_validate(node):
    """Of as many schemas as ``MLXNODE_SCHEMAS`` says; all 200 take minutes."""

    async def check(client: openai.AsyncOpenAI, seed: int) -> bool:
        schema = closed(SchemaMaker(seed).make())
        form = {"name": "x", "schema": schema, "strict": True}
        question = {"role": "user", "content": f"Answer with JSON: {json.dumps(schema)[:300]}"}
        answer = await client.chat.completions.create(
            model=CHAT,
            messages=[question],
            temperature=0.8,
            seed=seed,
            max_tokens=150,
            response_format={"type": "json_schema", "json_schema": form},
        )
        [choice] = answer.choices
        if choice.finish_reason == "length":
            return False
        jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        ).validate(json.loads(choice.message.content))
        return True

    count = int(os.environ.get("MLXNODE_SCHEMAS", "8"))
    options = {"api_key": API_KEY, "max_retries": 0, "timeout": 3000}
    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", **options) as client:
        ended = await asyncio.gather(*(check(client, seed) for seed in range(count)))
    assert sum(ended) >= 0.4 * count  # so small a model goes on and on where it may


@pytest.mark.long
def test_a_forced_call_of_a_tool_is_always_one(client):
    class Weather(BaseModel):
        """The weather of a city."""

        city: str = Field(max_length=20)
        days: int = Field(ge=1, le=7)

    tool = openai.pydantic_function_tool(Weather)
    for seed in range(3):
        completion = client.chat.completions.parse(
            model=CHAT,
            messages=QUESTION,
            tools=[tool],
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=1.0,
            seed=seed,
        )
        [call] = completion.choices[0].message.tool_calls
        assert isinstance(call.function.parsed_arguments, Weather)
        assert completion.choices[0].finish_reason == "tool_calls"


@pytest.mark.long
async def test_chat_async_streams_run_at_once_and_equal_their_solo_runs(node, client):
    """Sixteen streams with different lengths and prompts, batched, against one at a time."""
    parameters = [
        {
            "messages": [
                {"role": "user", "content": f"Write about the number {i}." * (1 + i % 4)}
            ],
            "max_tokens": 3 + i % 8,
        }
        for i in range(16)
    ]
    alone = [ask(client, **p).choices[0].message.content for p in parameters]

    async def one(client: openai.AsyncOpenAI, parameters: dict) -> str:
        stream = await client.chat.completions.create(
            model=CHAT, temperature=0, stream=True, **parameters
        )
        return "".join([c.choices[0].delta.content or "" async for c in stream])

    async with openai.AsyncOpenAI(base_url=f"{node.url}/v1", api_key=API_KEY) as many:
        together = await asyncio.gather(*(one(many, p) for p in parameters))
    assert together == alone


@pytest.mark.long
def test_chat_with_a_seed_is_reproducible(client):
    first = ask(client, temperature=1.2, seed=5)
    again = ask(client, temperature=1.2, seed=5)
    other = ask(client, temperature=1.2, seed=6)
    assert first.choices[0].message.content == again.choices[0].message.content
    assert first.choices[0].message.content != other.choices[0].message.content


def test_chat_ends_at_a_stop_string(client):
    whole = ask(client).choices[0].message.content
    stop = whole[10:14]
    answer = ask(client, stop=[stop])
    assert answer.choices[0].message.content == whole[: whole.index(stop)]
    assert answer.choices[0].finish_reason == "stop"


def test_completion_continues_the_text(client):
    answer = client.completions.create(
        model=CHAT, prompt="One, two, three, four,", max_tokens=6, temperature=0
    )
    assert "five" in answer.choices[0].text
    assert answer.usage.completion_tokens == 6
    assert answer.choices[0].finish_reason == "length"


def test_embeddings_tell_meanings_apart(client):
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "The stock market fell."]
    answer = client.embeddings.create(model=EMBEDDING, input=texts)
    cat, kitten, market = (item.embedding for item in answer.data)
    assert len(cat) == 384
    assert math.isclose(sum(x * x for x in cat), 1, abs_tol=1e-4)
    similarity = [sum(a * b for a, b in zip(cat, v, strict=True)) for v in (kitten, market)]
    assert similarity[0] > 0.5 > 0.3 > similarity[1]


def test_models_are_listed(client):
    assert {model.id for model in client.models.list()} == {CHAT, EMBEDDING}
    assert client.models.retrieve(CHAT).id == CHAT


def test_curl_needs_the_key(node):
    body = json.dumps({"model": CHAT, "messages": QUESTION, "max_tokens": 4})
    url = f"{node.url}/v1/chat/completions"
    content = ("-H", "Content-Type: application/json", "-d", body)
    status, answer = curl(url, *content)
    assert status == 401
    assert json.loads(answer)["error"]["type"] == "invalid_request_error"
    status, answer = curl(url, *content, "-H", f"Authorization: Bearer {API_KEY}")
    assert status == 200
    assert json.loads(answer)["choices"][0]["message"]["content"]
    assert curl(f"{node.url}/health")[0] == 200


def test_curl_stream_ends_with_done(node):
    body = {"model": CHAT, "messages": QUESTION, "max_tokens": 4, "stream": True}
    status, answer = curl(
        "-N",
        f"{node.url}/v1/chat/completions",
        *("-H", f"Authorization: Bearer {API_KEY}", "-H", "Content-Type: application/json"),
        *("-d", json.dumps(body)),
    )
    assert status == 200
    assert answer.rstrip().endswith("data: [DONE]")


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        (lambda c: ask(c, model="none"), openai.NotFoundError, "model_not_found"),
        (lambda c: ask(c, model=EMBEDDING), openai.BadRequestError, None),
        (lambda c: c.embeddings.create(model=CHAT, input="x"), openai.BadRequestError, None),
        (
            lambda c: ask(c, messages=[{"role": "user", "content": "word " * 4000}]),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
def test_errors_are_openai_errors(client, call, error, code):
    with pytest.raises(error) as caught:
        call(client)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    if code is not None:
        assert caught.value.code == code


def test_engine_killed_during_a_stream_ends_it_with_an_error_and_comes_back(node, client):
    stream = ask(
        client,
        stream=True,
        max_tokens=500,
        messages=[{"role": "user", "content": "Tell me a very long story about a river."}],
    )
    with pytest.raises(openai.APIError) as caught:
        for number, _ in enumerate(stream):
            if number == 3:
                os.kill(node.engine_pid(), signal.SIGKILL)
    assert caught.value.type == "server_error"
    patient = client.with_options(max_retries=20)  # 503 with Retry-After until it is back
    assert "Paris" in ask(patient).choices[0].message.content


def test_worker_killed_is_replaced(node, client):
    os.kill(node.worker_pids()[0], signal.SIGKILL)
    patient = client.with_options(max_retries=10)
    for _ in range(4):
        assert "Paris" in ask(patient).choices[0].message.content
    assert len(node.worker_pids()) == 2


def test_sigterm_lets_a_running_stream_finish(tmp_path, demo_chat, demo_embedding):
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        with openai.OpenAI(base_url=f"{node.url}/v1", api_key=API_KEY, max_retries=0) as client:
            stream = iter(ask(client, stream=True, max_tokens=40))
            next(stream)
            node.process.send_signal(signal.SIGTERM)
            reasons = [chunk.choices[0].finish_reason for chunk in stream]
        assert reasons[-1] in ("stop", "length")
        assert node.process.wait(30) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{node.url}/health")


def test_supervisor_killed_leaves_no_process_behind(tmp_path, demo_chat, demo_embedding):
    with NodeProcess(tmp_path) as node:
        node.wait_ready()
        children = node.child_pids()
        assert len(children) >= 3
        node.process.kill()
        node.process.wait()
        gone = threading.Event()
        for _ in range(200):
            if not any(is_running(pid) for pid in children):
                gone.set()
                break
            gone.wait(0.05)
        assert gone.is_set()


@pytest.mark.metal
@pytest.mark.parity
def test_metal_kernels_and_operations_give_the_same_answers(
    tmp_path, demo_chat, demo_embedding
):
    answers = []
    for kernels in ("metal", "ops"):
        folder = tmp_path / kernels
        folder.mkdir()
        config = f'{CONFIG}\n[engine]\nkernels = "{kernels}"\n'
        with NodeProcess(folder, config) as process:
            process.wait_ready()
            url = f"{process.url}/v1"
            with openai.OpenAI(base_url=url, api_key=API_KEY, max_retries=0) as client:
                texts = [
                    ask(client, temperature=0.8, seed=seed, top_p=0.9) for seed in range(5)
                ]
                vector = client.embeddings.create(model=EMBEDDING, input="a text").data[0]
        answers.append([text.choices[0].message.content for text in texts])
        answers[-1].append([round(x, 5) for x in vector.embedding])
    assert answers[0] == answers[1]
