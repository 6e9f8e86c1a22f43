"""The requests in flight as figures."""

from mlxnode.figures import RequestFigures, RequestState
from mlxnode.messages.control import Pong
from mlxnode.server.http.accounting import Account, account_of
from mlxnode.server.http.in_flight import Flight, InFlight

_MOST = 100  # requests that are told at once


def pong_of(sequence: int, in_flight: InFlight) -> Pong:
    """The answer to a ping: the number of requests, and the oldest of them."""
    flights = in_flight.listed
    told = [_figures_of(flight) for flight in flights[:_MOST]]
    return Pong(sequence, num_requests=len(flights), requests=told)


def _figures_of(flight: Flight) -> RequestFigures:
    """What a request is, and how far it has come."""
    request, account = flight.request, account_of(flight.request)
    used = account.count_used()
    return RequestFigures(
        id=flight.id,
        request_id=request.ctx.request_id,
        key=request.ctx.key_id,
        path=f"/{request.route.path}" if request.route else "",
        model=account.model,
        state=_state_of(account),
        seconds=round(account.seconds, 3),
        prompt_tokens=used.prompt,
        cached_tokens=used.cached,
        completion_tokens=used.completion,
        is_stream=flight.is_stream,
        is_background=account.is_background,
    )


def _state_of(account: Account) -> RequestState:
    if account.asked_engine is None:
        return "preparing"
    return "waiting" if account.first_output is None else "generating"
