"""Which status an error of the server itself has, and whom it blames."""

import errno
import os

import pytest

from mlxnode.server.errors import InvalidRequest, from_exception
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.templates import ChatTemplate


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/secret/path/tokenizer.json")


SHORTAGES = [
    os_error(errno.EMFILE),
    os_error(errno.ENFILE),
    os_error(errno.ENOMEM),
    MemoryError(),
]
OTHERS = [os_error(errno.EIO), os_error(errno.ENOENT), RuntimeError("/secret/path")]


@pytest.mark.parametrize("error", SHORTAGES, ids=repr)
def test_shortage_of_the_machine_is_a_503(error):
    answered = from_exception(error, "/v1/chat/completions", "POST", 1)
    assert (answered.status, answered.headers) == (503, {"retry-after": "2"})
    assert "secret" not in answered.message


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_other_failure_of_the_machine_is_a_500(error):
    answered = from_exception(error, "/v1/chat/completions", "POST", 1)
    assert answered.status == 500
    assert "secret" not in answered.message


class Wrapper:
    """What ``mlx_lm`` loads as a tokenizer, whose template raises ``error``."""

    chat_template = "{{ messages }}"
    has_chat_template = True
    has_thinking = has_tool_calling = False
    think_end_tokens = None

    def __init__(self, error: Exception):
        self._error = error

    def apply_chat_template(self, *_: object, **__: object) -> str:
        raise self._error

    def get_added_vocab(self) -> dict[str, int]:
        return {}


def conversation() -> Conversation:
    return Conversation(
        [{"role": "user", "content": "hi"}],
        functions=[],
        must_call=False,
        constraint=None,
        variables={},
        reasoning_effort=None,
        continues=False,
        starts_answer=True,
    )


@pytest.mark.parametrize("error", [*SHORTAGES, *OTHERS[:2]], ids=repr)
def test_template_does_not_blame_the_client_for_the_machine(error):
    with pytest.raises(type(error)) as caught:
        ChatTemplate(Wrapper(error)).render(conversation())
    assert caught.value is error


@pytest.mark.parametrize("error", [ValueError("no"), TypeError("no"), KeyError("role")])
def test_template_blames_the_client_for_messages_that_it_does_not_take(error):
    with pytest.raises(InvalidRequest, match="does not accept these messages"):
        ChatTemplate(Wrapper(error)).render(conversation())
