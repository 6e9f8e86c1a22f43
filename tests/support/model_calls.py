"""Requests about the models of a worker, and what it has learnt of them."""

import threading

import httpx2 as httpx
from support.bare_requests import WAIT

from mlxnode.messages.control import Ping, Pong


def call(worker, path: str, method: str = "POST", key: str | None = None, **options):
    key = worker.admin_key if key is None else key
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{worker.url}/v1/models/{path}"
    return httpx.request(method, url, headers=headers, timeout=WAIT, **options)


def told(worker) -> None:
    """All that was sent has been read."""
    worker.send(Ping(1))
    worker.wait_for(Pong)


def states(worker) -> dict[str, str]:
    answer = httpx.get(f"{worker.url}/v1/models", headers=worker.headers)
    return {model["id"]: model["status"] for model in answer.json()["data"]}


def wait_for_state(worker, model: str, state: str) -> None:
    """The pipe of the engine has no answer to a ping."""
    paused = threading.Event()
    while states(worker)[model] != state:
        paused.wait(0.01)
