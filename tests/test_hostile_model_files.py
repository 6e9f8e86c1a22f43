"""A real node with damaged and hostile models: each fails by name, others are served."""

import json
import re
import shutil
import struct
from pathlib import Path

import openai
import pytest
from support import tiny
from support.hostile_files import CASES, config
from support.node_process import NodeProcess

pytestmark = pytest.mark.slow

NAMES = (
    "config is a FIFO",
    "a million layers",
    "a width of many digits",
    "deep config",
    "tokenizer is a FIFO",
    "weights are a FIFO",
    "a header of 2^60",
    "a deep header",
    "offsets beyond the file",
    "an index from the root",
)


def with_step(name: str, **step: object):
    """A tokenizer whose ``name`` is this step, which tokenizers takes and cannot use."""

    def damage(folder: Path) -> None:
        file = folder / "tokenizer.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: step}))

    return damage


# What only the process that loads the model can find; each of these panics in Rust.
LATE = {
    "tokens that do not exist": with_step(
        "post_processor",
        type="TemplateProcessing",
        single=[{"SpecialToken": {"id": "[X]", "type_id": 0}}],
        pair=[],
        special_tokens={},
    ),
    "a map of characters that is cut": with_step(
        "normalizer", type="Precompiled", precompiled_charsmap="/////w=="
    ),
    "a map of characters that is empty": with_step(
        "normalizer", type="Precompiled", precompiled_charsmap="AAAAAAAA"
    ),
    "a width that the weights have not": config(hidden_size=1 << 24),
    "heads that do not divide": config(num_attention_heads=7),
    "no heads": config(num_attention_heads=0),
}


def ask(node: NodeProcess, model: str) -> object:
    with openai.OpenAI(base_url=f"{node.url}/v1", api_key="none", max_retries=0) as client:
        messages = [{"role": "user", "content": "hi"}]
        return client.chat.completions.create(model=model, messages=messages, max_tokens=3)


def test_node_serves_one_model_beside_hostile_ones(tmp_path):
    good = tiny.make_chat_model(tmp_path / "good")
    paths, reasons = {"good": good}, {}
    for number, name in enumerate((*NAMES, *LATE)):
        id = f"bad{number}"
        paths[id] = Path(shutil.copytree(good, tmp_path / id))
        damage, reasons[id] = CASES.get(name) or (LATE[name], ".")
        damage(paths[id])
    bomb = struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", 9, 0, 1 << 50)
    paths["bomb"] = tmp_path / "bomb.gguf"
    paths["bomb"].write_bytes((b"GGUF" + bomb).ljust(150, b"\0"))
    reasons["bomb"] = r"1125899906842624 elements of 'k', more than the file has bytes for"
    tables = [
        f'[api.models.{id}]\npath = "{path}"\ntype = "chat"' for id, path in paths.items()
    ]
    api = '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false'
    with NodeProcess(tmp_path, "\n".join([api, *tables, "[server]\nworkers = 2\n"])) as node:
        node.wait_ready(300)
        assert ask(node, "good").choices
        for id, reason in reasons.items():
            with pytest.raises(openai.InternalServerError) as caught:
                ask(node, id)
            assert (caught.value.status_code, caught.value.code) == (503, "model_failed")
            assert re.search(reason, caught.value.message), caught.value.message
        assert ask(node, "good").choices
        # No child has died of any of them.
        assert len(node._started(r"worker \d+")) == 2 and len(node._started("engine")) == 1
        log = "".join(node.log)
        assert "Traceback" not in log and all(id in log for id in reasons)
