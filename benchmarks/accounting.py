"""The CPU time that usage and request log take, for each request, without HTTP.

``python benchmarks/accounting.py``. The thread of the event loop, or of the supervisor's loop,
and the thread that writes are measured apart.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlxnode.config.tables import RequestLogForm, ServerConfig
from mlxnode.messages.control import Usage
from mlxnode.process.usage_keeper import UsageKeeper
from mlxnode.server.http.accounting import account_of, charge
from mlxnode.server.http.logged_app import entry_of
from mlxnode.server.http.request_log import RequestLog

COUNT = 10_000  # requests, as many as the queue of the log holds


def request() -> Any:
    """As much of a request as its account and its entry read."""
    context = SimpleNamespace(report_usage=lambda usage: None)
    app = SimpleNamespace(ctx=SimpleNamespace(worker_context=context))
    return SimpleNamespace(
        app=app,
        ctx=SimpleNamespace(key_id="alice", request_id="req_0123456789abcdef0123456789abcdef"),
        route=SimpleNamespace(path="v1/chat/completions"),
        method="POST",
        stream=None,
    )


def account(log: RequestLog | None) -> None:
    """All that is done for one request."""
    one = request()
    account_of(one).ask_engine("org/model")
    charge(one, "org/model", 1000, 400, 200)
    if log is not None:
        log.write(entry_of(one))


def measure(work: Callable[[], object], finish: Callable[[], object]) -> str:
    """CPU time of this thread, and of the other one, in microseconds for a call of ``work``."""
    process, began = time.process_time(), time.thread_time()
    for _ in range(COUNT):
        work()
    own = time.thread_time() - began
    finish()
    other = time.process_time() - process - (time.thread_time() - began)
    return f"{1e6 * own / COUNT:6.1f} µs on the loop, {1e6 * other / COUNT:6.1f} µs in a thread"


def main() -> None:
    print("worker, no log  ", measure(lambda: account(None), lambda: None))
    with tempfile.TemporaryDirectory() as folder:
        forms: tuple[RequestLogForm, ...] = ("text", "json")
        for form in forms:
            log = RequestLog(form, str(Path(folder, form))).open()
            found = measure(lambda log=log: account(log), lambda log=log: log.close(60))
            print(f"worker, log {form}", found)
        keeper = UsageKeeper(ServerConfig(usage_file=str(Path(folder, "usage.sqlite"))))
        keeper.open()
        usage = Usage("alice", "org/model", 1000, 400, 200)
        print("supervisor      ", measure(lambda: keeper.add(usage), keeper.close))


if __name__ == "__main__":
    main()
