"""What a request to the engine says about the tokens that it will use."""

import pytest

from mlxnode.messages.data import Sampling
from mlxnode.server.answer.request import GenerationRequest
from mlxnode.server.prompt.context_length import Prompt, fit_prompt


def request_of(prompts: list[Prompt], num_candidates: int = 1) -> GenerationRequest:
    return GenerationRequest(
        model=None,
        prompts=prompts,
        samplings=[Sampling()] * num_candidates,
        num_choices=1,
        stop_ids=[],
        stop_strings=[],
    )


@pytest.mark.parametrize(
    ("max_tokens", "num_candidates", "expected"),
    [(50, 1, 50), (131_072, 1, 1024), (32_000, 3, 3072), (5, 2, 10)],
)
def test_request_expects_an_answer_of_usual_length(max_tokens, num_candidates, expected):
    request = request_of([Prompt([1, 2, 3], max_tokens)], num_candidates)
    assert (request.num_prompt_tokens, request.num_expected_tokens) == (3, expected)


def test_request_tells_the_shortest_of_its_clamped_answers():
    prompts = [
        fit_prompt([1] * length, 100, requested=60, param="prompt") for length in (10, 50, 70)
    ]
    assert [prompt.max_tokens for prompt in prompts] == [60, 50, 30]
    assert request_of(prompts).clamped_to == 30
    assert request_of(prompts[:1]).clamped_to is None
