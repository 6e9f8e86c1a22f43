"""A real node with chat templates that loop and bloat: the others go on as if nothing were."""

import concurrent.futures
from pathlib import Path

import openai
import pytest
from support import tiny
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

FOREVER = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLED = (
    "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
    "{% endfor %}"
)
# Each does so if the message says so.
TRAPS = {
    "loop": FOREVER,
    "double": DOUBLED,
    "pad": "{{ 'x'.ljust(10**11) }}",
    "recur": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "write": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
}
TRAP = (
    "".join(
        f"{{% if messages[0].content == '{word}' %}}{body}{{% endif %}}"
        for word, body in TRAPS.items()
    )
    + tiny.CHAT_TEMPLATE
)


def config(**models: Path) -> str:
    tables = [
        f'[api.models.{id}]\npath = "{path}"\ntype = "chat"' for id, path in models.items()
    ]
    api = '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false'
    return "\n".join([api, *tables, "[server]\nworkers = 1\nhang_timeout = 10\n"])


def ask(node: NodeProcess, model: str, text: str = "hi") -> object:
    with openai.OpenAI(
        base_url=f"{node.url}/v1", api_key="none", max_retries=0, timeout=300
    ) as client:
        return client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": text}], max_tokens=3
        )


@pytest.mark.long
def test_node_fails_a_template_that_loops_at_the_load_by_name(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    loops = tiny.make_chat_model(tmp_path / "loops", template=FOREVER + tiny.CHAT_TEMPLATE)
    bloats = tiny.make_chat_model(tmp_path / "bloats", template=DOUBLED + tiny.CHAT_TEMPLATE)
    long = tiny.make_chat_model(tmp_path / "long", template=tiny.CHAT_TEMPLATE + " " * 2**20)
    models = {"good": good, "loops": loops, "bloats": bloats, "long": long}
    reasons = {
        "loops": "the chat template takes more than",
        "bloats": "the chat template needs more than 1,024 MB",
        "long": "the chat template has .* characters",
    }
    with NodeProcess(tmp_path, config(**models)) as node:
        node.wait_ready(300)
        workers = node.worker_pids()
        assert ask(node, "good").choices
        for id, reason in reasons.items():
            with pytest.raises(openai.InternalServerError, match=reason) as caught:
                ask(node, id)
            assert caught.value.code == "model_failed"
        assert node.worker_pids() == workers
        assert "Traceback" not in "".join(node.log)


@pytest.mark.long
def test_node_ends_a_template_that_loops_on_some_messages_alone(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    trap = tiny.make_chat_model(tmp_path / "trap", template=TRAP)
    with (
        NodeProcess(tmp_path, config(good=good, trap=trap)) as node,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        node.wait_ready(300)
        workers = node.worker_pids()
        trapped = [pool.submit(ask, node, "trap", word) for word in TRAPS]
        served = 0
        while not all(future.done() for future in trapped):
            assert ask(node, "good").choices
            served += 1
        assert served > 3  # all the while
        for future in trapped:
            with pytest.raises(openai.BadRequestError, match="chat template cannot") as caught:
                future.result()
            assert (caught.value.param, caught.value.code) == ("messages", "invalid_value")
        assert ask(node, "trap").choices
        assert node.worker_pids() == workers
        assert "Traceback" not in "".join(node.log)
