"""The supervisor's side of the status socket, for a worker under test."""

import threading
from typing import Any

from mlxnode.config.keys import ApiKey
from mlxnode.figures import (
    EngineFigures,
    MemoryFigures,
    ModelFigures,
    Moment,
    NodeFigures,
    ProcessFigures,
    Rates,
    RequestFigures,
    RunnerFigures,
    TrafficFigures,
    TrafficRow,
)
from mlxnode.process.status_socket import StatusSocket

MEMORY = MemoryFigures(
    limit=1000,
    active=500,
    peak=600,
    buffer_cache=20,
    buffer_cache_limit=200,
    wired_limit=0,
    footprint=700,
    kv_total=300,
    kv_claimed=30,
    pressure="normal",
)


def row(key: str) -> TrafficRow:
    return TrafficRow(id=key, requests=1, prompt_tokens=5, cached_tokens=2, completion_tokens=3)


def flying(id: str, key: str) -> RequestFigures:
    return RequestFigures(
        id=id,
        request_id=f"req_{id}",
        key=key,
        path="/v1/chat/completions",
        model="tiny-chat",
        state="generating",
        seconds=1.5,
    )


def figures_of_node(key: str) -> NodeFigures:
    """The figures of a node that ``key`` uses, and other keys."""
    work = RunnerFigures(num_running=2, num_waiting=1, prefix_entries=3)
    models = [
        ModelFigures(id=id, weight_bytes=7, work=work, idle_seconds=4.0, same_as=same_as)
        for id, same_as in (("tiny-chat", None), ("org/tiny-text", "tiny-chat"))
    ]
    return NodeFigures(
        version="1.2.3",
        address="127.0.0.1:1",
        pid=1,
        uptime=5.0,
        descriptor_limit=10,
        is_draining=False,
        processes=[ProcessFigures(name="engine", state="ready", pid=2, starts=3, uptime=1)],
        failed_models={},
        engine=EngineFigures(memory=MEMORY, models=models),
        traffic=TrafficFigures(
            seconds=60,
            rates=Rates(models={"tiny-chat": 12.5}),
            keys=[row(key), row("narrow")],
            models=[],
            inter_token_median=0.25,
        ),
        now=Moment(generated_tokens=12.5, in_flight=3),
        num_requests=3,
        requests=[flying("1-1", key), flying("1-2", "narrow"), flying("2-1", "x")],
        fits={"tiny-chat": "fits"},
        history=[Moment(running=1), Moment(running=2, first_token=0.5)],
    )


class ScriptedNode:
    """The supervisor's side of the status socket, which counts its readers."""

    def __init__(self, worker: Any):
        self.worker = worker
        self.key = ApiKey.unnamed(worker.key).id
        self.num_reads = 0
        self.was_read = threading.Condition()
        self.figures = figures_of_node(self.key)
        self._socket = StatusSocket(worker.port, self._read)
        self._socket.open()

    def _read(self) -> NodeFigures:
        with self.was_read:
            self.num_reads += 1
            self.was_read.notify_all()
        return self.figures

    def close(self) -> None:
        self._socket.close()
