"""Nodes behind a balancer, and the conversations that they answer: discrete events."""

import heapq
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, Protocol

from scaling.costs import Costs
from scaling.node import Limits, Node, Use
from scaling.requests import Request
from scaling.traces import Conversation

Policy = Literal["affinity", "round-robin", "least-connections"]


class HasConnections(Protocol):
    """What a balancer knows of a node."""

    num_connections: int


@dataclass(frozen=True)
class Played:
    """What has happened. ``uses`` has one for each node; times in seconds."""

    requests: list[Request]
    uses: list[Use]
    seconds: float  # from the first arrival to the last token


def simulate(
    conversations: Iterable[Conversation],
    costs: Costs,
    num_nodes: int,
    policy: Policy,
    *,
    limits: Limits | None = None,
    answer_reuse: float = 1.0,
    share_a_machine: bool = False,
    until: float = math.inf,
) -> Played:
    """Play all conversations to their end, or ``until`` that time.

    A turn comes when the answer before has ended and its pause is over. A conversation ends
    with a request that is refused. ``share_a_machine``: all nodes are on one machine, and slow
    each other down as ``costs.beside`` says.
    """
    simulation = _Simulation(conversations, costs, num_nodes, policy, limits, answer_reuse)
    return simulation.run(until, share_a_machine=share_a_machine)


class _Simulation:
    def __init__(
        self,
        conversations: Iterable[Conversation],
        costs: Costs,
        num_nodes: int,
        policy: Policy,
        limits: Limits | None,
        answer_reuse: float,
    ):
        self._costs, self._answer_reuse = costs, answer_reuse
        self._nodes = [Node(costs, limits) for _ in range(num_nodes)]
        self._choose = chooser(policy, self._nodes)
        self._busy = [False] * num_nodes
        self._numbers = count()
        # Events: time, number, and what happens then.
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._requests: list[Request] = []
        self._conversations = {one.id: one for one in conversations}
        for one in self._conversations.values():
            self._later(one.at, lambda now, one=one: self._send(now, one, 0))

    def run(self, until: float, *, share_a_machine: bool) -> Played:
        self._share_a_machine = share_a_machine
        start = now = min((one.at for one in self._conversations.values()), default=0.0)
        while self._events and self._events[0][0] <= until:
            now, _, happen = heapq.heappop(self._events)
            happen(now)
        return Played(self._requests, [node.use for node in self._nodes], now - start)

    def _later(self, at: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), happen))

    def _send(self, now: float, conversation: Conversation, turn: int) -> None:
        """A turn leaves its client. The request is on its way for the time of HTTP."""
        before = conversation.turns[:turn]
        history = sum(each.user_tokens + each.answer_tokens for each in before)
        request = Request(
            conversation.id,
            turn,
            conversation.system,
            conversation.system_tokens,
            conversation.system_tokens + history + conversation.turns[turn].user_tokens,
            conversation.turns[turn].answer_tokens,
            now,
            self._answer_reuse,
        )
        self._requests.append(request)
        number = self._choose(conversation.id)
        node = self._nodes[number]
        node.num_connections += 1
        seconds = self._costs.http.at(request.prompt)
        if self._is_beside(number):
            seconds *= self._costs.beside.http
        self._later(now + seconds, lambda now: self._arrive(now, number, request))

    def _arrive(self, now: float, number: int, request: Request) -> None:
        node = self._nodes[number]
        node.add(request)
        if request.is_refused:
            node.num_connections -= 1
        elif not self._busy[number]:
            self._step(now, number)

    def _step(self, now: float, number: int) -> None:
        node = self._nodes[number]
        self._busy[number] = node.has_work
        if node.has_work:
            end, ended = node.step(now, is_beside=self._is_beside(number))
            self._later(end, lambda now: self._end_step(now, number, ended))

    def _end_step(self, now: float, number: int, ended: Sequence[Request]) -> None:
        for request in ended:
            self._nodes[number].num_connections -= 1
            conversation, turn = self._conversations[request.conversation], request.turn + 1
            if turn < len(conversation.turns):
                at = request.last_token_at + conversation.turns[turn].think
                self._later(
                    max(at, now), lambda now, c=conversation, t=turn: self._send(now, c, t)
                )
        self._step(now, number)

    def _is_beside(self, number: int) -> bool:
        return self._share_a_machine and any(
            busy for other, busy in enumerate(self._busy) if other != number
        )


def chooser(policy: Policy, nodes: Sequence[HasConnections]) -> Callable[[str], int]:
    """The node of each request of a conversation, as a balancer chooses it."""
    turns = count()
    if policy == "affinity":
        return lambda conversation: node_of(conversation, len(nodes))
    if policy == "round-robin":
        return lambda conversation: next(turns) % len(nodes)

    def least(conversation: str) -> int:
        first = next(turns)  # among equals, they take turns
        order = sorted(range(len(nodes)), key=lambda i: (i - first) % len(nodes))
        return min(order, key=lambda i: nodes[i].num_connections)

    return least


def node_of(conversation: str, num_nodes: int) -> int:
    """The node that a balancer finds by the hash of what names the conversation."""
    return zlib.crc32(conversation.encode()) % num_nodes
