"""Several choices, log-probabilities, echo, and what of a request reaches the engine."""

import openai
import pytest
from support import tiny
from support.contract import chat, complete
from tokenizers import Tokenizer, decoders, models

from mlxnode.messages.data import Generate, Token, Tokens, Update
from mlxnode.token_bytes import TokenBytes


def answer_by_seed(worker, texts: dict[int, tuple[str, float]]) -> None:
    """Each seed's text, with the same log-probability for each of its tokens."""

    def say(message: Generate) -> None:
        text, logprob = texts[message.sampling.seed]
        ids = worker.engine.ids(text)
        tokens = [Token(id, logprob) for id in ids]
        update = Update(uid=message.uid, tokens=tokens, finish="length")
        worker.engine.send(Tokens([update]))

    worker.engine.on_generate = say


def seeds_of(count: int, seed: int = 5) -> list[int]:
    return [(seed + i * 0x9E3779B97F4A7C15) % 2**64 for i in range(count)]


def test_chat_gives_n_choices_in_order(worker):
    first, second, third = seeds_of(3)
    answer_by_seed(worker, {first: ("one", -1), second: ("two", -1), third: ("three", -1)})
    answer = chat(worker, n=3, seed=5)
    assert [choice.message.content for choice in answer.choices] == ["one", "two", "three"]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage.completion_tokens == 11
    assert answer.usage.prompt_tokens == chat(worker, seed=5).usage.prompt_tokens


def test_chat_streams_n_choices_by_index(worker):
    first, second = seeds_of(2)
    answer_by_seed(worker, {first: ("one", -1), second: ("two", -1)})
    texts, roles, ends = {}, set(), set()
    for chunk in chat(worker, n=2, seed=5, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            if choice.delta.role:
                roles.add(choice.index)
            if choice.finish_reason:
                ends.add(choice.index)
    assert texts == {0: "one", 1: "two"}
    assert roles == ends == {0, 1}


def test_completions_number_the_choices_of_several_prompts(worker):
    answer = complete(worker, prompt=["a", "b"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    prompts = [worker.engine.next(Generate).prompt for _ in range(4)]
    assert prompts[0] == prompts[1] != prompts[2] == prompts[3]


def test_completions_give_the_best_of_several(worker):
    texts = dict(zip(seeds_of(4), [("a", -3), ("b", -1), ("c", -2), ("d", -9)], strict=True))
    answer_by_seed(worker, texts)
    answer = complete(worker, best_of=4, n=2, seed=5)
    assert [(choice.index, choice.text) for choice in answer.choices] == [(0, "b"), (1, "c")]
    assert answer.usage.completion_tokens == 4


def test_completions_echo_the_prompt(worker):
    worker.engine.answer = " upon a time"
    assert complete(worker, echo=True).choices[0].text == "Once upon a time"
    chunks = list(complete(worker, echo=True, n=2, stream=True))
    for index in (0, 1):
        text = "".join(c.choices[0].text for c in chunks if c.choices[0].index == index)
        assert text == "Once upon a time"


def score_prompts(worker) -> None:
    """The engine's part of scoring: minus the token id for each prompt token but the first."""

    def say(message: Generate) -> None:
        count = message.sampling.top_logprobs
        first, *rest = message.prompt
        scored = [Token(id, -1.0 * id, {id: -1.0 * id} if count else None) for id in rest]
        [id] = worker.engine.ids("!")
        update = Update(
            uid=message.uid,
            tokens=[Token(id, -0.5, {id: -0.5} if count else None)],
            finish="length",
            prompt=[Token(first, None), *scored] if message.sampling.scores_prompt else None,
        )
        worker.engine.send(Tokens([update]))

    worker.engine.on_generate = say


@pytest.mark.parametrize("stream", [False, True])
def test_completions_score_an_echoed_prompt(worker, stream):
    score_prompts(worker)
    options = {"prompt": "é?", "echo": True, "logprobs": 1, "max_tokens": 1}
    if stream:
        [chunk] = [c for c in complete(worker, stream=True, **options) if c.choices[0].text]
        [choice] = chunk.choices
    else:
        [choice] = complete(worker, **options).choices
    assert choice.text == "é?!"
    logprobs = choice.logprobs
    first, *rest = worker.engine.next(Generate).prompt
    assert logprobs.tokens == ["bytes:\\xc3", "bytes:\\xa9", "?", "!"]
    assert logprobs.token_logprobs == [None, *(-1.0 * token for token in rest), -0.5]
    assert logprobs.text_offset == [0, 0, 1, 2]
    assert logprobs.top_logprobs[0] is None
    assert logprobs.top_logprobs[2] == {"?": -1.0 * rest[1]}
    assert first


def test_completions_with_max_tokens_0_score_the_prompt_alone(worker):
    score_prompts(worker)
    answer = complete(worker, prompt=["ab", "cd"], echo=True, logprobs=0, max_tokens=0)
    assert [choice.text for choice in answer.choices] == ["ab", "cd"]
    assert [choice.finish_reason for choice in answer.choices] == ["length"] * 2
    assert answer.choices[0].logprobs.tokens == ["a", "b"]
    assert answer.usage.completion_tokens == 0
    assert worker.settled.get(timeout=10).tokens == 4
    assert worker.engine.next(Generate).max_tokens == 1


def say_with_tops(worker, text: str) -> None:
    def say(message: Generate) -> None:
        ids = worker.engine.ids(text)
        tops = [{token: -0.5, token + 1: -float("inf")} for token in ids]
        count = message.sampling.top_logprobs
        for token, top in zip(ids, tops, strict=True):
            scored = Token(token, -0.5, dict(list(top.items())[:count]) if count else None)
            worker.engine.send(Tokens([Update(uid=message.uid, tokens=[scored])]))
        worker.engine.send(Tokens([Update(uid=message.uid, finish="stop")]))

    worker.engine.on_generate = say


@pytest.mark.parametrize("stream", [False, True])
def test_chat_tells_logprobs_with_exact_bytes(worker, stream):
    say_with_tops(worker, "né")
    answer = chat(worker, logprobs=True, top_logprobs=2, stream=stream)
    if stream:
        found = [c.choices[0].logprobs for c in answer if c.choices[0].logprobs]
        entries = [entry for logprobs in found for entry in logprobs.content]
    else:
        entries = answer.choices[0].logprobs.content
    assert bytes(byte for entry in entries for byte in entry.bytes) == "né".encode()
    assert [entry.logprob for entry in entries] == [-0.5] * 3
    assert entries[0].token == "n"
    assert [top.logprob for top in entries[0].top_logprobs] == [-0.5, -9999.0]
    assert worker.engine.next(Generate).sampling.top_logprobs == 2


def test_chat_tells_logprobs_without_top_ones(worker):
    say_with_tops(worker, "ab")
    answer = chat(worker, logprobs=True)
    assert [entry.top_logprobs for entry in answer.choices[0].logprobs.content] == [[], []]
    assert chat(worker).choices[0].logprobs is None


def test_completions_tell_logprobs_in_the_legacy_form(worker):
    say_with_tops(worker, "aé!")
    logprobs = complete(worker, logprobs=1).choices[0].logprobs
    assert logprobs.tokens == ["a", "bytes:\\xc3", "bytes:\\xa9", "!"]
    assert logprobs.token_logprobs == [-0.5] * 4
    assert logprobs.top_logprobs[0] == {"a": -0.5}
    assert logprobs.text_offset == [0, 1, 1, 2]
    alone = complete(worker, logprobs=0).choices[0].logprobs.top_logprobs
    assert alone[0] == {"a": -0.5}


def test_sampling_parameters_reach_the_engine(worker):
    options = {"repetition_penalty": 1.2, "min_tokens": 4, "stop_token_ids": [9, 8]}
    chat(
        worker,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        logit_bias={"7": -100, "9": 2.5},
        extra_body=options,
    )
    message = worker.engine.next(Generate)
    assert message.sampling.presence_penalty == 0.5
    assert message.sampling.frequency_penalty == -0.5
    assert message.sampling.repetition_penalty == 1.2
    assert message.sampling.logit_bias == {7: -100.0, 9: 2.5}
    assert message.sampling.min_tokens == 4
    assert message.stop_ids == [2, 9, 8]
    chat(worker, extra_body={"ignore_eos": True})
    assert worker.engine.next(Generate).stop_ids == []


def test_choices_are_reserved_and_counted_together(worker):
    chat(worker, n=4, max_tokens=10)
    four = worker.reserved.get(timeout=10)
    worker.reset()
    chat(worker, max_tokens=10)
    one = worker.reserved.get(timeout=10)
    assert (four.tokens, four.expected) == (one.tokens, one.expected + 30)


def test_token_bytes_of_sentencepiece_vocabularies():
    vocabulary = {"<unk>": 0, "▁the": 1, "<0xE2>": 2, "n": 3}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    text = TokenBytes(tokenizer)
    assert [text.bytes_of(i) for i in range(5)] == [b"<unk>", b" the", b"\xe2", b"n", b""]


def test_token_bytes_of_byte_level_vocabularies_covers_all_bytes(tmp_path):
    tiny.make_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = TokenBytes(tokenizer)
    pieces = [text.bytes_of(i) for i in range(tokenizer.get_vocab_size())]
    assert {bytes([byte]) for byte in range(256)} <= set(pieces)
    for line in ("Grüezi 👋🏽!", "\n\t 日本"):
        assert b"".join(pieces[i] for i in tokenizer.encode(line).ids) == line.encode()


def test_more_choices_than_the_queue_holds_are_refused(worker):
    with pytest.raises(openai.BadRequestError, match="520 answers") as caught:
        complete(worker, prompt=["a"] * 65, n=8)
    assert caught.value.code == "too_many_choices"
    assert worker.engine.received.empty()


def test_usage_tells_what_was_cached_once_for_all_answers_to_a_prompt(worker):
    cached = iter([0, 7, 3, 5])

    def say(message: Generate) -> None:
        [id] = worker.engine.ids("a")
        update = Update(
            uid=message.uid,
            tokens=[Token(id, -1.0)],
            finish="length",
            num_cached=next(cached),
        )
        worker.engine.send(Tokens([update]))

    worker.engine.on_generate = say
    usage = complete(worker, prompt=["0123456789", "x123456789"], n=2).usage
    assert usage.prompt_tokens_details.cached_tokens == 0 + 3


def test_chat_tells_the_engine_where_prompts_part(worker):
    system = {"role": "system", "content": "Be brief. " * 9}
    question = {"role": "user", "content": "Why? " * 9}
    chat(worker, messages=[system, question])
    message = worker.engine.next(Generate)
    before = len(f"system\n{system['content']}\nuser\n") + 3  # and three special tokens
    assert message.borders == [before]
    complete(worker)
    assert worker.engine.next(Generate).borders == []


def test_prompts_that_differ_in_a_volatile_head_are_the_same(worker):
    prompts = []
    for value in ("0aaa9", "36ee5"):
        line = f"x-anthropic-billing-header: cc_version=2.1.9; cch={value};"
        system = {"role": "system", "content": f"{line}\nBe brief."}
        chat(worker, messages=[system, {"role": "user", "content": line}])
        prompts.append(worker.engine.next(Generate).prompt)
    text = [bytes(worker.engine._tokenizer.decode(ids), "utf-8") for ids in prompts]
    assert all(b"system\nBe brief." in line and b"0aaa9" not in line for line in text[1:])
    assert text[0].replace(b"0aaa9", b"36ee5") == text[1]
