"""Ranks of one engine on this machine: processes that MLX's ring backend connects.

Rank 0 runs a scenario of the test, the others follow its plans over pipes.
"""

import contextlib
import json
import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

TIMEOUT = 500.0  # seconds for a scenario


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now. MLX's ring has to know its ports before it binds them."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run_on_ranks(
    size: int,
    folder: Path,
    models: list[dict[str, Any]],
    scenario: Callable[..., Any],
    *arguments: Any,
) -> Any:
    """What ``scenario(models, *arguments)`` returns on rank 0 of ``size`` ranks.

    ``models`` have the arguments of ``open_model``; each rank opens its part of them.
    """
    (folder / "ring.json").write_text(
        json.dumps([[f"127.0.0.1:{port}"] for port in free_ports(size)])
    )
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        ends = [context.Pipe() for _ in range(size)]
        processes = [
            context.Process(
                target=_run,
                args=(rank, folder, models, scenario, arguments, ends, size),
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
            stack.callback(_end, process)
        mine = ends[0][0]
        ready = wait([mine, *(each.sentinel for each in processes)], TIMEOUT)
        assert mine in ready, "a rank has ended" if ready else "the scenario does not end"
        kind, result = mine.recv()
        assert kind == "result", result
        return result


def _end(process: Any) -> None:
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join()


def _run(
    rank: int,
    folder: Path,
    models: list[dict[str, Any]],
    scenario: Callable[..., Any],
    arguments: tuple[Any, ...],
    ends: list[tuple[Connection, Connection]],
    size: int,
) -> None:
    os.environ |= {"MLX_RANK": str(rank), "MLX_HOSTFILE": str(folder / "ring.json")}
    import mlx.core as mx

    from mlxnode.engine import cpu
    from mlxnode.engine.loader import split

    cpu.prepare_process()
    group = mx.distributed.init(strict=True, backend="ring")
    split.use(group, "tensor")
    opened = [open_model(**model) for model in models]
    if rank:
        _follow(ends[rank][1], group, opened)
    else:
        _lead(ends, group, opened, scenario, arguments)


def open_model(folder: Path, strategy: str | None = None, **changes: Any) -> Any:
    """The model in ``folder``, or the part of it that this process has as a rank."""
    from mlxnode.config.tables import ModelConfig
    from mlxnode.engine.loader import load_generation_model
    from mlxnode.models.describe import describe
    from mlxnode.models.files import ModelFiles

    config = ModelConfig(path=str(folder), type="chat", strategy=strategy, **changes)
    model = load_generation_model(describe("m", config, ModelFiles(folder, folder)))
    object.__setattr__(model, "folder", folder)
    return model


def _follow(pipe: Connection, group: Any, models: list[Any]) -> None:
    from mlxnode.engine.decode import projection
    from mlxnode.engine.ranks.calls import Calls
    from mlxnode.messages.ranks import to_rank

    def end(reason: str) -> NoReturn:
        print(reason, flush=True)
        os._exit(1)

    calls = Calls(group, end)
    for handle, model in enumerate(models, start=1):
        projection.prepare(model)
        calls.adopt(handle, model)
    with contextlib.suppress(EOFError):
        for plan in _plans(pipe):
            calls.follow(to_rank.decode(plan))


def _plans(pipe: Connection) -> Iterator[bytes]:
    while data := pipe.recv_bytes():
        yield data


def _lead(
    ends: list[tuple[Connection, Connection]],
    group: Any,
    models: list[Any],
    scenario: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    from mlxnode.engine import mirror
    from mlxnode.engine.ranks.leader import Leader
    from mlxnode.messages.message import encode

    others = [end for end, _ in ends[1:]]

    def send(plan: Any) -> None:
        data = encode(plan)
        for other in others:
            other.send_bytes(data)

    leader = Leader(SimpleNamespace(group=group, size=len(ends), send=send))
    for model in models:
        leader.adopt(model, leader._new_handle())
    mirror.install(leader)
    result: tuple[str, Any]
    try:
        result = "result", scenario(models, *arguments)
    except BaseException as error:
        import traceback

        result = "error", "".join(traceback.format_exception(error))
    ends[0][1].send(result)
    for other in others:
        other.send_bytes(b"")
