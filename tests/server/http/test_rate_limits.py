import asyncio
import concurrent.futures
import contextlib
import hashlib
import random
import threading

import httpx2 as httpx
import openai
import pytest
from support.bare_requests import chat

from mlxnode.messages.control import Limit, Ping, Pong, Reserve, Reserved, Settle, Used
from mlxnode.messages.data import Abort, Failed, Generate
from mlxnode.server.errors import RateLimited, Unavailable
from mlxnode.server.http.rate_limits import RateLimiter, format_duration

ASK = {"model": "tiny-chat", "messages": [{"role": "user", "content": "hi"}]}
NUM_PROMPT = 21


def settled_once(worker) -> int:
    """The tokens of the one settlement that there is."""
    tokens = worker.settled.get(timeout=10).tokens
    worker.send(Ping(0))
    worker.wait_for(Pong)
    assert worker.settled.empty()
    return tokens


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0201, "21ms"),
        (1, "1s"),
        (12.172, "12.172s"),
        (360, "6m0s"),
        (252.172, "4m12.172s"),
        (3661, "1h1m1s"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize("stream", [False, True])
def test_granted_requests_carry_the_limits(worker, stream):
    body = ASK | {"max_tokens": 50, "stream": stream}
    url = f"{worker.url}/v1/chat/completions"
    headers = httpx.post(url, json=body, headers=worker.headers).headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-requests"] == "1s"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert headers["x-ratelimit-remaining-tokens"] == "99000"
    assert headers["x-ratelimit-reset-tokens"] == "600ms"
    reserved = worker.reserved.get(timeout=10)
    assert (reserved.tokens, reserved.expected) == (NUM_PROMPT, 50)
    assert reserved.key == hashlib.sha256(worker.key.encode()).hexdigest()[:12]
    settled = worker.settled.get(timeout=10)
    assert (settled.ticket, settled.tokens) == (reserved.ticket, NUM_PROMPT + 7)


def test_several_prompts_reserve_for_each(worker):
    worker.client().completions.create(model="tiny-chat", prompt=["a", "bb"], max_tokens=5)
    reserved = worker.reserved.get(timeout=10)
    assert (reserved.tokens, reserved.expected) == (3, 2 * 5)
    assert worker.settled.get(timeout=10).tokens == 3 + 2 * 5


@pytest.mark.parametrize(("kind", "limit"), [("requests", 60), ("tokens", 100_000)])
def test_refused_requests_say_when_to_return(worker, kind, limit):
    bucket = Limit(limit, 0, 59.0)
    worker.refuse = Reserved(0, kind, 0.25, bucket, bucket)
    with pytest.raises(openai.RateLimitError) as caught:
        worker.client().chat.completions.create(**ASK)
    headers = caught.value.response.headers
    assert (caught.value.type, caught.value.code) == (kind, "rate_limit_exceeded")
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("1", "250")
    assert headers[f"x-ratelimit-remaining-{kind}"] == "0"
    assert "x-should-retry" not in headers
    assert str(limit) in caught.value.message
    assert worker.engine.received.empty() and worker.settled.empty()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_no_wait_can_cure_is_refused_for_good(worker, stream):
    worker.refuse = Reserved(0, "tokens", None, Limit(60, 60, 0.0), Limit(17, 17, 0.0))
    with pytest.raises(openai.BadRequestError) as caught:
        worker.client(max_retries=3).chat.completions.create(**ASK, stream=stream)
    assert (caught.value.type, caught.value.code) == (
        "invalid_request_error",
        "rate_limit_too_low",
    )
    assert str(NUM_PROMPT) in caught.value.message and "17" in caught.value.message
    headers = caught.value.response.headers
    assert "retry-after" not in headers and headers["x-ratelimit-limit-tokens"] == "17"
    assert worker.reserved.qsize() == 1
    assert worker.engine.received.empty() and worker.settled.empty()


@pytest.mark.parametrize("stream", [False, True])
def test_a_long_answer_is_reported_while_it_grows(worker, stream):
    reported = []

    def say(message: Generate) -> None:
        for _ in range(3):
            worker.engine.update(message.uid, "x" * 300)
            reported.append(worker.used.get(timeout=10))
        worker.engine.update(message.uid, "x" * 20, "length")

    worker.engine.on_generate = lambda message: threading.Thread(
        target=say, args=(message,), daemon=True
    ).start()
    list(worker.client().chat.completions.create(**ASK, stream=stream))
    settled = worker.settled.get(timeout=10)
    assert settled.tokens == NUM_PROMPT + 920
    assert reported == [Used(settled.ticket, NUM_PROMPT + n) for n in (300, 600, 900)]
    assert worker.used.empty()


def test_the_sdk_comes_back_after_retry_after(worker):
    worker.refuse = Reserved(0, "requests", 0.05, Limit(60, 0, 60.0), None)
    worker.num_refusals = 1
    assert worker.client(max_retries=2).chat.completions.create(**ASK).choices
    assert worker.reserved.qsize() == 2


def test_a_failed_request_is_settled_once_and_free(worker):
    def fail(message: Generate) -> None:
        worker.engine.send(Failed(message.uid, "internal", "no"))

    worker.engine.on_generate = fail
    with pytest.raises(openai.InternalServerError):
        worker.client().chat.completions.create(**ASK)
    assert settled_once(worker) == 0


def test_a_request_whose_client_leaves_is_settled_once(worker):
    said = threading.Event()

    def say_some(message: Generate) -> None:
        worker.engine.update(message.uid, "abc")
        said.set()

    worker.engine.on_generate = say_some
    url = f"{worker.url}/v1/chat/completions"
    body = ASK | {"stream": True}
    with httpx.stream("POST", url, json=body, headers=worker.headers) as response:
        assert said.wait(10)
        assert next(response.iter_lines())
    assert settled_once(worker) == NUM_PROMPT + 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_engine_dies_is_settled_once(worker, stream):
    def die(message: Generate) -> None:
        worker.engine.update(message.uid, "ab")
        worker.engine.disconnect()

    worker.engine.on_generate = die
    try:
        with pytest.raises(openai.APIError, match="engine stopped"):
            list(worker.client().chat.completions.create(**ASK, stream=stream))
        assert settled_once(worker) in (0, NUM_PROMPT + 2)  # whether it was heard or not
    finally:
        worker.engine.reset()
        worker.connect_engine()


def test_clients_that_leave_at_random_settle_each_reservation_once(worker):
    chosen, finished = random.Random(0), set()

    def say_some(message: Generate) -> None:
        for _ in range(chosen.randrange(5)):
            worker.engine.update(message.uid, "ab")
        if chosen.random() < 0.3:
            finished.add(message.uid)
            worker.engine.update(message.uid, "", "stop")

    def leave(seed: int) -> None:
        own = random.Random(seed)
        with chat(worker, stream=own.random() < 0.7) as connection:
            connection.settimeout(own.choice([0.0001, 0.01, 0.1, 0.5]))
            with contextlib.suppress(TimeoutError):
                while connection.recv(4096):
                    pass

    worker.engine.on_generate = say_some
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(leave, range(200)))
    paused = threading.Event()
    for _ in range(200):
        if worker.settled.qsize() == worker.reserved.qsize():
            break
        paused.wait(0.05)
    worker.send(Ping(0))
    worker.wait_for(Pong)
    settled = [settlement.ticket for settlement in worker.settled.queue]
    assert len(settled) > 100
    assert sorted(settled) == sorted(asked.ticket for asked in worker.reserved.queue)
    received = list(worker.engine.received.queue)
    running = {message.uid for message in received if isinstance(message, Generate)}
    running -= finished | {message.uid for message in received if isinstance(message, Abort)}
    assert not running


def test_embeddings_reserve_and_settle_their_tokens(worker):
    worker.client().embeddings.create(model="tiny-embedding", input=["ab", "cde"])
    reserved = worker.reserved.get(timeout=10)
    assert (reserved.model, reserved.tokens) == ("tiny-embedding", 5)
    assert settled_once(worker) == 5


def test_without_limits_nobody_is_asked(plain_worker):
    response = httpx.post(f"{plain_worker.url}/v1/chat/completions", json=ASK)
    assert response.status_code == 200 and plain_worker.reserved.empty()
    assert not [name for name in response.headers if name.startswith("x-ratelimit")]


# --- a client that leaves while the supervisor is asked -----------------------------


def limiter_that_sends_to(sent: list) -> RateLimiter:
    return RateLimiter(lambda message: sent.append(message) or True, enabled=True)


async def hold(limiter: RateLimiter) -> None:
    async with limiter.reserve("key", "m", 10) as reservation:
        reservation.tokens_used = 7


@pytest.mark.parametrize("refused", [None, "requests"])
@pytest.mark.parametrize("answer_comes_first", [False, True])
async def test_limits_give_back_what_nobody_waits_for(refused, answer_comes_first):
    sent: list = []
    limiter = limiter_that_sends_to(sent)
    task = asyncio.create_task(hold(limiter))
    await asyncio.sleep(0)
    answer = Reserved(1, refused, 0.0, Limit(1, 0, 1.0), None)
    steps = [lambda: limiter.on_reserved(answer), task.cancel]
    for step in steps if answer_comes_first else reversed(steps):
        step()
    with pytest.raises(asyncio.CancelledError):
        await task
    given_back = [] if refused else [Settle(1, 0)]
    assert sent == [Reserve(1, "key", "m", 10, 0), *given_back]


async def test_limits_settle_what_was_used():
    sent: list = []
    limiter = limiter_that_sends_to(sent)
    task = asyncio.create_task(hold(limiter))
    await asyncio.sleep(0)
    limiter.on_reserved(Reserved(1, None, 0.0, None, Limit(10, 0, 1.0)))
    await task
    assert sent[1:] == [Settle(1, 7)]


@pytest.mark.parametrize(
    ("seconds", "header", "milliseconds"),
    [(0.0004, "1", "1"), (1.0, "1", "1000"), (1.0001, "2", "1001"), (59.2, "60", "59200")],
)
def test_retry_after_is_whole_seconds_rounded_up(seconds, header, milliseconds):
    headers = RateLimited("no", kind="tokens", retry_after=seconds).headers
    assert headers == {"retry-after": header, "retry-after-ms": milliseconds}


async def test_limits_do_not_wait_for_a_supervisor_that_cannot_be_asked():
    with pytest.raises(Unavailable):
        await hold(RateLimiter(lambda message: False, enabled=True))
