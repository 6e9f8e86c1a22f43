"""Cached tokens over HTTP on models whose caches cannot be cut: states and sliding windows."""

import dataclasses
import re
from itertools import takewhile

import openai
import pytest
from support.architectures import write_folder
from support.family_templates import TEMPLATES
from support.node_process import API_KEY, NodeProcess

from mlxnode.server.formats.chat.request import to_conversation
from mlxnode.server.formats.chat.schema import ChatBody
from mlxnode.server.prompt.tokenizers import TextTokenizer
from mlxnode.server.prompt.tools import tool_use

# A start compiles what the model needs, which takes minutes on a machine with other work.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONTEXT = 16384
NUM_ANSWERED = 12
MOST_COMPUTED = 512  # tokens of the common prefix that may be computed again
BILLING = "x-anthropic-billing-header: cc_version=2.1.9.{n}a; cc_entrypoint=cli; cch=0{n}aa9;\n"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name}: {'looks up what is known. ' * 30}",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "trains")
]


@dataclasses.dataclass
class Served:
    """One model of the node, and its tokenizer to compare prompts with."""

    name: str
    client: openai.OpenAI
    tokenizer: TextTokenizer

    def ask(self, messages: list[dict], **parameters):
        """An answer of ``NUM_ANSWERED`` times the same letter, which is always text."""
        [[letter]] = self.tokenizer.prompt_ids(["e"])
        return self.client.chat.completions.create(
            model=self.name,
            messages=messages,
            temperature=0,
            max_tokens=NUM_ANSWERED,
            logit_bias={str(letter): 100},
            **parameters,
        )

    def ids(self, messages: list[dict], **parameters) -> list[int]:
        body = ChatBody.model_validate({"model": self.name, "messages": messages, **parameters})
        conversation = to_conversation(body)
        template = self.tokenizer.chat_template
        tools = tool_use(conversation, template.notation)
        return self.tokenizer.chat_prompt(conversation, tools).ids


@pytest.fixture(scope="module", params=TEMPLATES)
def model(request, tmp_path_factory):
    """One model at a time: a start of five takes long on a busy machine."""
    name = request.param
    root = tmp_path_factory.mktemp(name)
    folder = root / "model"
    write_folder(name, folder, template=TEMPLATES[name], max_position_embeddings=CONTEXT)
    config = (
        f'[api]\naddress = "127.0.0.1:0"\napi_key = "{API_KEY}"\n'
        f'[api.models.{name}]\npath = "{folder}"\ntype = "chat"\n'
        f"context_length = {CONTEXT}\n[server]\nworkers = 1\n"
    )
    with NodeProcess(root, config) as process:
        process.wait_ready(400)
        options = {"api_key": API_KEY, "max_retries": 0, "timeout": 300}
        with openai.OpenAI(base_url=f"{process.url}/v1", **options) as client:
            yield Served(name, client, TextTokenizer(folder))


def system(case: str) -> dict:
    """A system message that no other test has, of about 1,600 tokens."""
    return {"role": "system", "content": f"{case}. " + "You answer in few words. " * 64}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def num_cached(answer) -> int:
    return answer.usage.prompt_tokens_details.cached_tokens


def check_cached(model: Served, before: list[dict], after: list[dict], **parameters) -> None:
    """Ask twice: the second prompt finds nearly all that it has in common with the first."""
    first = model.ask(before, **parameters)
    ids = model.ids(after, **parameters)
    letter = model.tokenizer.prompt_ids(["e"])[0]
    known = [*model.ids(before, **parameters), *letter * NUM_ANSWERED]
    pairs = zip(known, ids, strict=False)
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    answer = model.ask(after, **parameters)
    assert first.usage.prompt_tokens == len(model.ids(before, **parameters))
    assert answer.usage.prompt_tokens == len(ids)
    assert common > 1500
    assert common - MOST_COMPUTED <= num_cached(answer) <= common


def history(case: str) -> list[dict]:
    earlier = {"role": "assistant", "content": "Here it is.", "reasoning_content": "Well."}
    return [system(case), user("What is where?"), earlier, user("And now? " * 30)]


def test_the_same_prompt_again(model):
    messages = history("same")
    check_cached(model, messages, messages)


@pytest.mark.parametrize("keeps_thought", [True, False])
def test_the_next_turn(model, keeps_thought):
    messages = history(f"next {keeps_thought}")
    message = model.ask(messages).choices[0].message.model_dump(exclude_none=True)
    if not keeps_thought:
        message.pop("reasoning_content", None)
    kept = {"role": "assistant", "content": "", **message}
    check_cached(model, messages, [*messages, kept, user("Why?")])


def test_the_last_question_edited(model):
    messages = history("edited")
    check_cached(model, messages, [*messages[:-1], user("Who is it? " * 30)])


def test_another_question_after_the_same_system_message(model):
    messages = history("other")
    check_cached(model, messages, [messages[0], user("Who are you? " * 30)], tools=TOOLS)


def test_a_head_that_changes_in_each_request_is_no_part_of_the_prompt(model):
    first, second = (
        [{**message, "content": BILLING.format(n=n) + message["content"]}, *rest]
        for n in (1, 2)
        for message, *rest in [history("billing")]
    )
    model.ask(first)
    answer = model.ask(second)
    assert num_cached(answer) >= answer.usage.prompt_tokens - MOST_COMPUTED
    assert not re.search(
        "billing-header", model.tokenizer.decode(model.ids(history("billing")))
    )


@pytest.mark.long
def test_a_chat_of_six_turns_with_tools_is_cached_from_the_second_turn_on(model):
    messages = [system("six turns " * 300)]
    for turn in range(6):
        messages = [*messages, user(f"And city {turn}?")]
        answer = model.ask(messages, tools=TOOLS)
        share = num_cached(answer) / answer.usage.prompt_tokens
        assert turn == 0 or share >= 0.95, (turn, answer.usage)
        function = {"name": "weather", "arguments": f'{{"city": "{turn}"}}'}
        call = {"id": f"call0000{turn}", "type": "function", "function": function}
        messages += [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": f"Sun in {turn}."},
        ]
        answer = model.ask(messages, tools=TOOLS)
        assert num_cached(answer) / answer.usage.prompt_tokens >= 0.95, (turn, answer.usage)
        messages += [{"role": "assistant", "content": f"In {turn} it is sunny."}]
