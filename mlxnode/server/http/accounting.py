"""What one request has used, and how it ended: for the usage of its key and the request log."""

import time
from collections.abc import Callable

from sanic import Request

from mlxnode.messages.control import Usage
from mlxnode.server.answer.usage import NOTHING, TokenCounts
from mlxnode.server.errors import ApiError
from mlxnode.server.http.context import context_of


class Account:
    """Of one request, from its head to the end of its answer.

    ``usage`` is None if the request counts nowhere: it was refused, or failed before its model
    had begun. ``error`` is the code of the error that the client got. Times are in seconds:
    ``received_at`` since 1970, the others since the head had arrived.
    """

    def __init__(self):
        self.received_at = time.time()
        self._began = time.monotonic()
        self.model: str | None = None  # once it is known that the key may use it
        self.usage: Usage | None = None
        self.error: str | None = None
        self.asked_engine: float | None = None
        self.first_output: float | None = None
        self.last_output: float | None = None
        self.num_sequences = 1
        self.is_background = False
        self.count_used: Callable[[], TokenCounts] = lambda: NOTHING  # tokens, so far

    @property
    def inter_token(self) -> float | None:
        """The mean time between two tokens of a sequence; None: all came at once."""
        first, last = self.first_output, self.last_output
        num_gaps = self.count_used().completion / self.num_sequences - 1
        if first is None or last is None or last == first or num_gaps <= 0:
            return None
        return (last - first) / num_gaps

    @property
    def seconds(self) -> float:
        """The time until now."""
        return time.monotonic() - self._began

    def ask_engine(self, model: str) -> None:
        """The request for ``model`` goes to the engine now."""
        self.model = model
        self.asked_engine = self.seconds

    def noting(self, use: Callable[[int], object]) -> Callable[[int], object]:
        """``use``, which is called with each output of the engine; its time is noted."""

        def note(tokens: int) -> object:
            self.last_output = self.seconds
            if self.first_output is None:
                self.first_output = self.last_output
            return use(tokens)

        return note

    def note_error(self, error: ApiError | None) -> None:
        """The client got ``error``, or none."""
        self.error = error and (error.code or error.type)


def account_of(request: Request) -> Account:
    """The account of ``request``, which begins with the first call."""
    if not has_account(request):
        request.ctx.account = Account()
    return request.ctx.account


def has_account(request: Request) -> bool:
    return hasattr(request.ctx, "account")


def charge(
    request: Request, model: str, prompt: int = 0, cached: int = 0, completion: int = 0
) -> None:
    """Count ``request``, once, with the tokens that it has used of ``model``.

    The supervisor adds them to the usage of the key.
    """
    account = account_of(request)
    account.model = model
    key = request.ctx.key_id
    first, gap = account.first_output, account.inter_token
    account.usage = Usage(key, model, prompt, cached, completion, first, gap)
    context_of(request).report_usage(account.usage)
