"""What one request has used, and how it ended: for the usage of its key and the request log."""

import time
from collections.abc import Callable

from sanic import Request

from mlxnode.messages.control import Usage
from mlxnode.messages.data import Timing
from mlxnode.server.answer.usage import NOTHING, TokenCounts
from mlxnode.server.errors import ApiError
from mlxnode.server.http.acceptor import is_inner
from mlxnode.server.http.context import context_of
from mlxnode.server.http.trace import TraceContext


class Account:
    """Of one request, from its head to the end of its answer.

    ``usage`` is None if the request counts nowhere: it was refused, or failed before its model
    had begun. ``error`` is the code of the error that the client got. Times are in seconds:
    ``received_at`` since 1970, ``timing`` as the engine told it, the others since the head had
    arrived. ``note_gap`` takes the seconds between two tokens of a sequence.
    """

    def __init__(self, *, is_background: bool = False):
        self.received_at = time.time()
        self._began = time.monotonic()
        self.model: str | None = None  # once it is known that the key may use it
        self.usage: Usage | None = None
        self.error: str | None = None
        self.asked_engine: float | None = None
        self.first_output: float | None = None
        self.last_output: float | None = None
        self.answered: float | None = None  # the head of the answer goes out
        self.finish_reasons: list[str] = []  # of the choices that have one, in their order
        self.num_sequences = 1
        self.is_background = is_background  # it is a line of a batch
        self.count_used: Callable[[], TokenCounts] = lambda: NOTHING  # tokens, so far
        self.trace: TraceContext | None = None
        self.timing: Timing | None = None
        self.num_keep_alives = 0
        self.note_gap: Callable[[float], object] | None = None
        self._num_noted = 0  # tokens, at the last output that had some
        self._noted_at: float | None = None

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
            if tokens > self._num_noted:
                self._note_gaps(self.last_output, tokens - self._num_noted)
                self._num_noted = tokens
            return use(tokens)

        return note

    def begin_answer(self) -> None:
        """The head of the answer goes out now."""
        self.answered = self.seconds

    def _note_gaps(self, now: float, num_new: int) -> None:
        """Note one gap for each new token but the first ones.

        The tokens of one output came together: they share the time since the last one.
        """
        if self._noted_at is not None and self.note_gap is not None:
            gap = (now - self._noted_at) * min(self.num_sequences, num_new) / num_new
            for _ in range(num_new):
                self.note_gap(gap)
        self._noted_at = now

    def note_error(self, error: ApiError | None) -> None:
        """The client got ``error``, or none."""
        self.error = error and (error.code or error.type)


def account_of(request: Request) -> Account:
    """The account of ``request``, which begins with the first call."""
    if not has_account(request):
        request.ctx.account = Account(is_background=is_inner(request))
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


def note_gaps(request: Request) -> None:
    """Count the time between the tokens of ``request``, whose model is known."""
    account, metrics = account_of(request), context_of(request).metrics
    if metrics is not None and metrics.counts is not None and account.model is not None:
        account.note_gap = metrics.counts.inter_token(account.model)
