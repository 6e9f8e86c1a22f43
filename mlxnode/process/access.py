"""Who may enter the node: read from its files at the start, and again when they change."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlxnode.config.file import LoadedConfig
from mlxnode.config.tables import ApiConfig, NodeConfig, RateLimits
from mlxnode.errors import reason_of
from mlxnode.messages.control import Access
from mlxnode.process.child import Child
from mlxnode.process.ledger import Ledger

log = logging.getLogger("mlxnode.supervisor")

INTERVAL = 1.0  # seconds between two looks at the files
_AT_RUN_TIME = {"api_key", "api_key_file", "admin_key", "admin_key_file", "keys"} | {
    "tls_certificate",
    "tls_key",
    *RateLimits.model_fields,
}  # of [api]


def access_of(loaded: LoadedConfig) -> Access:
    """What a worker has to know of a configuration to let requests in."""
    api = loaded.config.api
    return Access(
        keys=loaded.api_keys,
        is_limited=api.is_limited,
        certificate=loaded.certificate,
        cors_origins=api.cors_origins if api.cors_enabled else [],
    )


def hand_out(loaded: LoadedConfig, ledger: Ledger, workers: Sequence[Child]) -> None:
    """Apply ``loaded`` to the workers that run, and to those that are started later."""
    access = access_of(loaded)
    ledger.replace(loaded.config.api, {key.id for key in access.keys})
    for worker in workers:
        worker.arguments = tuple(
            access if isinstance(old, Access) else old for old in worker.arguments
        )
        worker.send(access)


class AccessWatch:
    """Reads the configuration again when one of its files has changed, on a thread of its own.

    A file is read once it has been the same for two looks, so that no half-written one counts.
    What cannot be used changes nothing; it is looked at until it can.
    """

    def __init__(
        self,
        loaded: LoadedConfig,
        load: Callable[[], LoadedConfig],
        interval: float = INTERVAL,
    ):
        """``load`` reads the configuration that has been read as ``loaded``."""
        self._loaded = loaded
        self._load = load
        self._interval = interval
        self._read_state = self._seen_state = _state_of(loaded.access_files)
        self._problem = ""  # why the files could not be used, when they were last read
        self._is_asked = threading.Event()
        self._on_change: Callable[[LoadedConfig], None] = lambda loaded: None
        self._thread = threading.Thread(target=self._watch, name="access", daemon=True)

    def start(self, on_change: Callable[[LoadedConfig], None]) -> None:
        """Call ``on_change`` with each new configuration, on the thread of the watch."""
        self._on_change = on_change
        self._thread.start()

    def ask(self) -> None:
        """Read the files now, whether or not they have changed."""
        self._is_asked.set()

    def _watch(self) -> None:
        while True:
            is_asked = self._is_asked.wait(self._interval)
            self._is_asked.clear()
            self.look(is_asked=is_asked)

    def look(self, *, is_asked: bool = False) -> None:
        """Look at the files once, and read them if they have changed, or if that is asked."""
        state = _state_of(self._loaded.access_files)
        is_settled, self._seen_state = state == self._seen_state, state
        has_changed = state != self._read_state or self._problem
        if is_asked or (has_changed and is_settled):
            self._read_state = state
            self._read(is_asked)

    def _read(self, is_asked: bool) -> None:
        try:
            loaded = self._load()
        except Exception as error:  # whatever the files hold, the node goes on
            problem = reason_of(error)
            if is_asked or problem != self._problem:
                log.warning("keys and certificate stay as they are: %s", problem)
            self._problem = problem
            return
        before, self._loaded, self._problem = self._loaded, loaded, ""
        if loaded.access_files != before.access_files:
            self._read_state = []  # read once more: a new file can have changed meanwhile
        changes = list(_changes(before, loaded))
        if changes or is_asked:
            text = "; ".join(changes) or "nothing is new"
            log.info("%s: read again: %s", loaded.where, text)
        for warning in set(loaded.warnings) - set(before.warnings):
            log.warning("%s: %s", loaded.where, warning)
        if changes:
            self._on_change(loaded)


def _state_of(files: list[Path]) -> list[tuple[int, ...] | None]:
    """What changes with the contents of a file and with its owner; None: no such file."""
    return [_state(file) for file in files]


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)


def _changes(before: LoadedConfig, after: LoadedConfig) -> Iterator[str]:
    """What is new, in words, without a key."""
    old, new = ({key.digest: key for key in it.api_keys} for it in (before, after))
    added = sorted(key.id for digest, key in new.items() if digest not in old)
    removed = sorted(key.id for digest, key in old.items() if digest not in new)
    if added:
        yield f"new keys: {', '.join(added)}"
    if removed:
        yield f"keys without access: {', '.join(removed)}"
    changed = sorted(
        key.id for digest, key in new.items() if digest in old and key != old[digest]
    )
    if changed:
        yield f"keys with other rights: {', '.join(changed)}"
    if _limits_of(before.config.api) != _limits_of(after.config.api):
        yield "other rate limits"
    if (before.certificate is None) != (after.certificate is None):
        yield "TLS is switched on or off at the next start"
    elif before.certificate != after.certificate:
        yield "a new certificate"
    if waiting := sorted(_waiting(before.config, after.config)):
        yield f"at the next start: {', '.join(waiting)}"


def _limits_of(api: ApiConfig) -> list[tuple[str, object, object]]:
    tables = {"": api} | {f"k {name}": table for name, table in api.keys.items()}
    tables |= {f"m {id}": table for id, table in api.models.items()}
    return [
        (name, table.max_requests_per_minute, table.max_tokens_per_minute)
        for name, table in tables.items()
        if table.has_limits
    ]


def _waiting(before: NodeConfig, after: NodeConfig) -> Iterator[str]:
    """The keys whose new value counts at the next start only."""
    for name in NodeConfig.model_fields:
        old, new = getattr(before, name), getattr(after, name)
        for key in type(old).model_fields:
            is_kept = name == "api" and key in _AT_RUN_TIME
            if not is_kept and _fixed(getattr(old, key)) != _fixed(getattr(new, key)):
                yield f"{name}.{key}"


def _fixed(value: Any) -> Any:
    """``value``; of a table of models, all but the rate limits, which count at once."""
    if not isinstance(value, dict):
        return value
    return {
        id: table.model_copy(update=dict.fromkeys(RateLimits.model_fields))
        for id, table in value.items()
    }
