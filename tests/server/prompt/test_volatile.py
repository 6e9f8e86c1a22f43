import time

import pytest

from mlxnode.config.tables import ServerConfig
from mlxnode.server.prompt.conversation import Breakpoint, Conversation
from mlxnode.server.prompt.volatile import VolatileHeads

BILLING = "x-anthropic-billing-header: cc_version=2.1.9.3a3; cc_entrypoint=cli; cch=0aaa9;"
SHIPPED = VolatileHeads(ServerConfig().volatile_prompt_patterns)


def cleaned(content: str, role: str = "system", heads: VolatileHeads = SHIPPED) -> str:
    [message] = heads.without(Conversation([{"role": role, "content": content}])).messages
    return message["content"]


@pytest.mark.parametrize("end", ["", "\n", "\n\n", " "])
@pytest.mark.parametrize("line", [BILLING, BILLING.removesuffix(";") + "\n", BILLING[:27]])
def test_the_billing_line_is_removed_with_the_space_after_it(line, end):
    assert cleaned(f"{line}{end}You are = helpful; yes.") == "You are = helpful; yes."


@pytest.mark.parametrize("role", ["system", "developer"])
def test_only_the_head_of_a_system_message_changes(role):
    assert cleaned(BILLING + "\nYes.", role) == "Yes."
    for content in (f"Note: {BILLING}\nYes.", f"\n{BILLING}", "", "You are helpful."):
        assert cleaned(content, role) == content


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_the_head_of_another_message_stays(role):
    assert cleaned(BILLING + "\nYes.", role) == BILLING + "\nYes."


def test_prompts_that_differ_in_the_billing_line_are_the_same():
    other = BILLING.replace("0aaa9", "36ee5").replace("3a3", "177")
    assert other != BILLING
    assert cleaned(other + "\nYou are helpful.") == cleaned(BILLING + "\nYou are helpful.")


def test_patterns_apply_in_order_each_once():
    heads = VolatileHeads([r"now: .*\n", r"turn \d+\n"])
    assert cleaned("now: 10:15\nturn 3\nturn 4\nrest", heads=heads) == "turn 4\nrest"
    assert cleaned("turn 3\nnow: 10:15\nrest", heads=heads) == "now: 10:15\nrest"


def test_the_rest_of_the_message_stays_as_it_is():
    message = {"role": "system", "content": BILLING + "\nrest", "name": "operator"}
    conversation = Conversation([message, {"role": "user", "content": "hi"}], must_call=True)
    after = SHIPPED.without(conversation)
    assert after.must_call and after.messages == [
        {"role": "system", "content": "rest", "name": "operator"},
        {"role": "user", "content": "hi"},
    ]
    assert message["content"].startswith(BILLING)  # the caller's own is not changed


@pytest.mark.parametrize("piece", ["a=", "a=b;", "a", ";", " ", "=", "a=b; \t", "-"])
def test_the_shipped_patterns_take_no_time_on_hostile_texts(piece):
    started_at = time.process_time()
    cleaned("x-anthropic-billing-header:" + piece * 1_000_000)
    assert time.process_time() - started_at < 0.1


def test_a_pattern_sees_a_bounded_head_only():
    assert cleaned("a" * 5000, heads=VolatileHeads(["a*"])) == "a" * 4000


def test_breakpoints_lose_the_same_text():
    system = {"role": "system", "content": f"{BILLING}\n\nYou are kind. Be brief."}
    places = tuple(
        Breakpoint(-1, system["content"][:end])
        for end in (10, len(BILLING), len(BILLING) + 2, len(BILLING) + 15)
    )
    clean = SHIPPED.without(Conversation([system], breakpoints=places))
    heads = [place.head for place in clean.breakpoints]
    assert heads[1:] == ["", "", "You are kind."]
    assert not clean.messages[0]["content"].startswith("x-")
