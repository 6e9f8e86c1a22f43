"""The stored answers of the key that asks."""

import logging
import sqlite3
from typing import Any

from sanic import Request

from mlxnode.server.errors import InvalidRequest, NotFound
from mlxnode.server.formats.responses.answers import Response
from mlxnode.server.formats.responses.stored import StoredResponse, answer_of_item
from mlxnode.server.http.context import context_of
from mlxnode.server.response_store import ResponseStore

logger = logging.getLogger("mlxnode.server")

_OFF = "This server stores no answers: its configuration has [server] response_store = 0"


class KeyStore:
    """The answers of one key."""

    def __init__(self, store: ResponseStore, key_id: str):
        self._store = store
        self._key_id = key_id

    async def keep(
        self, response: Response, input: list[dict[str, Any]], affinity: str
    ) -> bool:
        """Store an answer with all items that it was made from; False if that fails."""
        try:
            data = StoredResponse.of(response, input, affinity)
            return await self._store.put(self._key_id, response.id, data)
        except sqlite3.Error as error:  # no space is left, say; the client has its answer
            logger.warning("the answer %s is not stored: %s", response.id, error)
            return False

    async def find(self, id: str) -> StoredResponse:
        """Raises NotFound."""
        data = await self._store.get(self._key_id, id)
        if data is None:
            raise NotFound(f"Response with id '{id}' not found.", code="response_not_found")
        return StoredResponse.read(data)

    async def find_item(self, id: str, param: str) -> dict[str, Any]:
        """An item of a stored answer, or of what that was made from.

        Raises:
            NotFound: naming ``param``.
        """
        answer = answer_of_item(id)
        data = answer and await self._store.get(self._key_id, answer)
        for item in StoredResponse.read(data).conversation if data else ():
            if item["id"] == id:
                return item
        raise NotFound(f"Item with id '{id}' not found.", param=param, code="item_not_found")

    async def delete(self, id: str) -> None:
        """Forget an answer, if there is one of that id."""
        await self._store.delete(self._key_id, id)


def key_store(request: Request) -> KeyStore | None:
    """The answers of the key that sends ``request``; None if the node stores none."""
    store = context_of(request).response_store
    return None if store is None else KeyStore(store, request.ctx.key_id)


def required_store(request: Request, param: str) -> KeyStore:
    """Raises InvalidRequest, naming ``param``, if the node stores no answers."""
    store = key_store(request)
    if store is None:
        raise InvalidRequest(f"{_OFF}.", param=param, code="response_store_off")
    return store


async def stored(request: Request, id: str) -> StoredResponse:
    """The answer ``id``. Raises NotFound."""
    store = key_store(request)
    if store is None:
        raise NotFound(f"Response with id '{id}' not found. {_OFF}.", code="response_store_off")
    return await store.find(id)
