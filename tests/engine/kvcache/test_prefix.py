"""The prefix cache: what is found, what stays, and that it changes no text."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache
from support.running import make, make_runner, run, step

from mlxnode.engine.kvcache.budget import MemoryBudget
from mlxnode.engine.kvcache.entries import PrefixEntry, RunningEntry
from mlxnode.engine.kvcache.prefix import PrefixCache
from mlxnode.engine.work import RequestKey

TOKEN = 2 * 4 * 2  # bytes: keys and values, two floats each


def row_of(tokens: list[int]) -> list[KVCache]:
    """One layer whose keys tell the tokens."""
    cache = KVCache()
    data = mx.broadcast_to(
        mx.array(tokens, mx.float32)[None, None, :, None], (1, 1, len(tokens), 2)
    )
    cache.keys, cache.values, cache.offset = data + 0, data + 0, len(tokens)
    return [cache]


def told(row: list[KVCache] | None) -> list[int]:
    return [] if row is None else np.array(row[0].keys_and_values()[0])[0, 0, :, 0].tolist()


def make_prefixes(limit: int, budget: int = 10**6) -> PrefixCache:
    return PrefixCache(lambda: limit * TOKEN, MemoryBudget(budget * TOKEN))


def add(prefixes: PrefixCache, tokens: list[int], logits: mx.array | None = None) -> None:
    entry = PrefixEntry(tokens)
    entry.remember(len(tokens), logits)
    prefixes.add(tokens, row_of(tokens), entry)


def find(prefixes: PrefixCache, tokens: list[int]) -> list[int]:
    """What is known of a prompt of ``tokens`` and one more."""
    known = prefixes.find([*tokens, 999])
    if known is None:
        return []
    assert told(known.cache) == tokens[: known.length] and known.logits is None
    return tokens[: known.length]


def test_the_longest_beginning_is_found():
    prefixes = make_prefixes(1000)
    add(prefixes, [1, 2, 3, 4])
    add(prefixes, [1, 2, 5, 6, 7])
    assert find(prefixes, [1, 2, 5, 6, 8]) == [1, 2, 5, 6]
    assert find(prefixes, [1, 2, 3]) == [1, 2, 3]
    assert find(prefixes, [2, 2]) == []
    assert prefixes.find([1, 2, 3, 4]).length == 3  # the last token has to be processed


def test_what_follows_a_whole_prompt_is_kept():
    prefixes = make_prefixes(1000)
    logits = mx.zeros((1, 16))
    add(prefixes, [1, 2, 3], logits)
    assert prefixes.nbytes == 3 * TOKEN + 64
    assert prefixes.find([1, 2, 3]).logits is logits
    add(prefixes, [1, 2, 3, 4, 5])  # the answer: the prompt may be asked again
    found = prefixes.find([1, 2, 3])
    assert told(found.cache) == [1, 2, 3] and found.logits is logits
    assert prefixes.find([1, 2, 3, 4]).logits is None
    add(prefixes, [1, 2, 3, 4], mx.ones((1, 16)))  # the next prompt
    assert prefixes.find([1, 2, 3]).length == 2
    assert prefixes.find([1, 2, 3, 4]).length == 4
    assert prefixes.nbytes == 5 * TOKEN + 64


def test_a_text_takes_the_place_of_its_beginning():
    prefixes = make_prefixes(1000)
    add(prefixes, [1, 2, 3])
    add(prefixes, [1, 2, 3, 4])
    assert prefixes.nbytes == 4 * TOKEN
    add(prefixes, [1, 2])
    assert prefixes.nbytes == 4 * TOKEN


def test_a_text_that_runs_is_found_and_kept_when_it_ends():
    prefixes = make_prefixes(1000)
    taken = []

    def take(length: int) -> list[KVCache]:
        taken.append(length)
        return row_of([1, 2, 3][:length])

    text = RunningEntry([1, 2, 3], take)
    text.remember(3, mx.zeros((1, 16)))
    prefixes.add_running(text)
    assert prefixes.nbytes == 0
    assert find(prefixes, [1, 2]) == [1, 2]
    assert prefixes.find([1, 2, 3]).logits is text.logits
    assert taken == [2, 3]
    prefixes.add([1, 2, 3, 4], row_of([1, 2, 3, 4]), text)
    prefixes.remove_running(text)
    assert prefixes.find([1, 2, 3]).logits is text.logits
    assert find(prefixes, [1, 2, 3, 4]) == [1, 2, 3, 4]
    assert taken == [2, 3]


def test_a_text_that_runs_is_forgotten_where_nothing_of_it_can_be_kept():
    prefixes = make_prefixes(1000)
    text = RunningEntry([1, 2, 3], row_of)
    text.remember(3, mx.zeros((1, 16)))
    prefixes.add_running(text)
    prefixes.remove_running(text)
    assert prefixes.find([1, 2, 3, 5]) is None
    prefixes.add_running(text)
    prefixes.clear_running()
    assert prefixes.find([1, 2, 3, 5]) is None


def test_what_was_not_used_for_longest_goes_first():
    prefixes = make_prefixes(10)
    add(prefixes, [1] * 4)
    add(prefixes, [2] * 4)
    find(prefixes, [1] * 4)
    add(prefixes, [3] * 4)
    assert [find(prefixes, [i] * 4) != [] for i in (1, 2, 3)] == [True, False, True]


def test_what_others_share_stays_when_the_rest_goes():
    prefixes = make_prefixes(100)
    system = list(range(100, 130))
    add(prefixes, [*system, *[1] * 20])
    find(prefixes, [*system, 2])  # another conversation under the same system prompt
    add(prefixes, [3] * 60)
    assert find(prefixes, [*system, 4]) == system
    assert prefixes.nbytes == 90 * TOKEN
    add(prefixes, [5] * 65)
    add(prefixes, [6] * 95)
    assert find(prefixes, [*system, 4]) == []


def test_a_text_beyond_the_limit_is_not_kept():
    prefixes = make_prefixes(10)
    add(prefixes, [1] * 11)
    assert prefixes.nbytes == 0
    assert not make_prefixes(0).is_enabled


def test_memory_is_lent_and_given_back():
    budget = MemoryBudget(20 * TOKEN)
    prefixes = PrefixCache(lambda: 15 * TOKEN, budget)
    for i in range(3):
        add(prefixes, [i] * 5)
    assert prefixes.nbytes == 15 * TOKEN
    assert budget.claim("batch", 12 * TOKEN)
    assert prefixes.nbytes == 5 * TOKEN
    assert not budget.claim("batch", 21 * TOKEN)
    assert budget.claim("batch", 20 * TOKEN) and prefixes.nbytes == 0
    add(prefixes, [9] * 5)
    assert prefixes.nbytes == 0


def test_memory_that_holds_nothing_any_more_is_free():
    budget = MemoryBudget(20 * TOKEN)
    prefixes = PrefixCache(lambda: 15 * TOKEN, budget)
    add(prefixes, [1] * 5)
    assert budget.claim("batch", 15 * TOKEN)
    add(prefixes, [2] * 6)
    assert prefixes.nbytes == 0
    assert budget.claim("batch", 20 * TOKEN, evicts=False)


# --- in the runner ------------------------------------------------------------------


def text_of(runner, request) -> list[int]:
    return run(runner, request)[request.key[1]]


@pytest.mark.parametrize("bits", [None, 8])
def test_a_known_prompt_is_not_processed_again(model_of, bits):
    model = model_of(64)
    runner = make_runner(model, kv_cache_bits=bits)
    first, again = make(3, prompt=60), make(3, prompt=60)
    text = text_of(runner, first)
    assert (first.num_cached, first.num_prefilled) == (0, 60)
    assert text_of(runner, again) == text
    assert again.num_cached == 60


def test_the_next_turn_finds_the_answer(model):
    runner = make_runner(model)
    first = make(3, prompt=60)
    text = text_of(runner, first)
    turn, alone = make(4, prompt=10), make(4, prompt=10)
    turn.prompt = alone.prompt = [*first.prompt, *text, *turn.prompt]
    answer = text_of(runner, turn)
    assert turn.num_cached >= 60 + len(text) - 1
    assert answer == text_of(make_runner(model, prefix_cache_gb=0.0), alone)
    assert alone.num_cached == 0


def test_the_next_turn_finds_an_answer_that_was_cut_short(model):
    runner = make_runner(model)
    first = make(3, prompt=60, max_tokens=100)
    runner.add_request(first)
    while len(first.tokens) < 10:
        step(runner)
    runner.abort(first.key)
    while runner.has_work:
        step(runner)
    turn, alone = make(4, prompt=10), make(4, prompt=10)
    turn.prompt = alone.prompt = [*first.prompt, *first.tokens, *turn.prompt]
    assert text_of(runner, turn) == text_of(make_runner(model), alone)
    assert turn.num_cached >= 69


def test_who_begins_like_a_text_that_runs_takes_over_from_the_batch(model):
    runner = make_runner(model, prefix_cache_gb=0.0)  # nothing is kept of what has ended
    running, alike = make(3, prompt=60, max_tokens=60), make(3, prompt=60, max_tokens=60)
    other = make(3, prompt=60)
    for request in (alike, other):
        request.key = RequestKey(1, request.max_tokens)
    other.prompt = [*other.prompt[:50], *make(4, prompt=10).prompt]
    runner.add_request(running)
    while len(running.tokens) < 5:
        step(runner)
    tokens = run(runner, alike, other)
    assert (alike.num_cached, other.num_cached) == (60, 50)
    assert tokens[60] == running.tokens
    alone = make(3, prompt=60)
    alone.prompt = other.prompt
    assert tokens[20] == text_of(make_runner(model), alone)
    late = make(3, prompt=60)
    run(runner, late)
    assert late.num_cached == 0


def test_those_who_share_a_beginning_wait_for_it(model):
    runner = make_runner(model)
    requests = [make(uid, prompt=20) for uid in range(4)]
    shared = make(9, prompt=200).prompt
    for request in requests:
        request.prompt = [*shared, *request.prompt]
    other = make(5, prompt=100)
    together = run(runner, *requests, other)
    assert [request.num_cached for request in requests[1:]] == [200] * 3
    assert requests[0].num_cached == other.num_cached == 0
    for request in requests:
        alone = make(request.key[1], prompt=20)
        alone.prompt = request.prompt
        assert text_of(make_runner(model), alone) == together[request.key[1]]


def test_short_prompts_do_not_wait_for_a_long_one_that_begins_alike():
    requests = [make(0, prompt=400), make(1, prompt=400), make(2, prompt=100)]
    requests[1].prompt = [*requests[0].prompt[:300], *requests[1].prompt[:100]]
    requests[2].prompt = [*requests[0].prompt[:40], *requests[2].prompt]
    assert requests[1].shares_prefix(requests[0])
    assert not requests[2].shares_prefix(requests[0])


def test_entries_are_never_written_to(model):
    runner = make_runner(model)
    texts = [text_of(runner, make(3, prompt=60)) for _ in range(3)]
    longer = make(3, prompt=60, max_tokens=200)
    runner.add_request(longer)
    while longer.finish_reason is None:
        step(runner)
    assert texts[0] == texts[1] == texts[2] == text_of(runner, make(3, prompt=60))
