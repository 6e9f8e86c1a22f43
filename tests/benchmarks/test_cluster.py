"""The simulator against results that are known, and against its own promises."""

import math
import random

import pytest
from scaling.cluster import Policy, simulate
from scaling.costs import Beside, Costs, Line, Memory
from scaling.node import Limits
from scaling.summary import mean, summary_of
from scaling.traces import Conversation, Turn, Workload

WORKLOAD = Workload(system_tokens=300, user_tokens=60, answer_tokens=30, think=2.0)
COSTS = Costs(
    http=Line(0.002),
    prefill=Line(0.01, 0.0005),
    step={1: 0.02, 4: 0.025, 16: 0.05},
    step_context=1e-7,
    beside=Beside(1.1, 1.3, 1.4),
)
POLICIES: list[Policy] = ["affinity", "round-robin", "least-connections"]


def single_turns(rate: float, count: int) -> list[Conversation]:
    """Conversations of one prompt and one token, at random times.

    The prompt is as long as all that is computed between two steps, so each has its own step.
    """
    random_, now, found = random.Random(7), 0.0, []
    for number in range(count):
        now += random_.expovariate(rate)
        found.append(Conversation(now, f"c{number}", f"s{number}", 0, (Turn(2100, 1),)))
    return found


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_node_with_equal_prompts_waits_as_a_queue_of_fixed_service_does(load):
    """M/D/1: the mean wait is load * service / (2 * (1 - load)), by Pollaczek and Khinchine."""
    service = 0.1
    costs = Costs(http=Line(0.0), prefill=Line(service), step={1: 1e-9})
    trace = single_turns(load / service, 40_000)
    found = simulate(trace, costs, 1, "affinity", limits=Limits(prefill_stall=10)).requests
    waits = [request.first_token_at - request.sent_at - service for request in found]
    assert mean(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


def test_requests_of_a_node_without_load_take_the_time_of_their_parts():
    one = Conversation(1.0, "c", "s", 0, (Turn(100, 5),))
    (request,) = simulate([one], COSTS, 1, "affinity").requests
    assert request.first_token_at - request.sent_at == pytest.approx(0.002 + 0.01 + 0.05)
    tokens = sum(range(101, 105))
    assert sum(request.gaps) == pytest.approx(4 * 0.02 + 1e-7 * tokens)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("tokens", [1e9, 9000.0])  # of memory
def test_every_request_ends_with_all_its_tokens(policy, tokens):
    costs = Costs(COSTS.http, COSTS.prefill, COSTS.step, memory=Memory(tokens, tokens / 4))
    trace = list(WORKLOAD.conversations(1.0, 150, seed=1))
    found = simulate(trace, costs, 3, policy).requests
    refused = {request.conversation for request in found if request.is_refused}
    for request in found:
        assert request.is_refused or request.num_generated == request.answer
        assert request.is_refused or len(request.gaps) == request.answer - 1
        assert request.is_refused or 0 <= request.num_cached < request.prompt
    asked = {(request.conversation, request.turn) for request in found}
    assert len(asked) == len(found)
    for conversation in trace:
        if conversation.id not in refused:
            assert {(conversation.id, i) for i in range(len(conversation.turns))} <= asked


def test_rows_that_outgrow_the_memory_go_on_later():
    costs = Costs(COSTS.http, COSTS.prefill, COSTS.step, memory=Memory(3000, 500))
    long = [Conversation(0.0, f"c{i}", "s", 0, (Turn(50, 1200),)) for i in range(4)]
    played = simulate(long, costs, 1, "affinity")
    assert played.uses[0].num_displaced > 0
    assert all(request.num_generated == 1200 for request in played.requests)


@pytest.mark.parametrize("reuse", [1.0, 0.0])
def test_affinity_finds_more_prefixes(reuse):
    def hits(policy: Policy) -> float:
        trace = WORKLOAD.conversations(1.0, 200, seed=3)
        return summary_of(simulate(trace, COSTS, 4, policy, answer_reuse=reuse)).hit_rate

    assert hits("affinity") > hits("round-robin") + 0.05
    assert hits("affinity") > hits("least-connections") + 0.05


def test_one_node_is_the_same_under_every_policy():
    trace = list(WORKLOAD.conversations(0.5, 50, seed=3))
    found = {summary_of(simulate(trace, COSTS, 1, policy)) for policy in POLICIES}
    assert len(found) == 1


def test_the_same_seed_plays_the_same():
    def played(seed: int):
        trace = WORKLOAD.conversations(1.0, 100, seed)
        return summary_of(simulate(trace, COSTS, 2, "least-connections"))

    assert played(5) == played(5) != played(6)


def test_more_load_waits_longer():
    def ttft(rate: float) -> float:
        return summary_of(
            simulate(WORKLOAD.conversations(rate, 200, 1), COSTS, 2, "affinity")
        ).ttft_p95

    assert ttft(0.1) < ttft(1.0) < ttft(5.0)


def test_nodes_of_one_machine_slow_each_other_down():
    trace = list(WORKLOAD.conversations(2.0, 60, seed=2))
    apart = summary_of(simulate(trace, COSTS, 2, "affinity"))
    together = summary_of(simulate(trace, COSTS, 2, "affinity", share_a_machine=True))
    assert 1.1 < together.itl_mean / apart.itl_mean < 1.5
    assert together.ttft_mean > apart.ttft_mean


def test_a_full_queue_refuses():
    at_once = [Conversation(0.0, f"c{i}", f"s{i}", 0, (Turn(50, 50),)) for i in range(600)]
    played = simulate(at_once, COSTS, 1, "affinity")
    refused = [request for request in played.requests if request.is_refused]
    assert 0 < len(refused) <= 600 - 512 + 32
    assert all(math.isnan(request.first_token_at) for request in refused)
    assert played.uses[0].longest_queue == 512
