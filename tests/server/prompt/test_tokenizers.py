import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import tiny
from support.notation_templates import FAMILIES
from tokenizers import Tokenizer

from mlxnode.errors import ModelError
from mlxnode.server.errors import InvalidRequest
from mlxnode.server.formats.completions.request import encode_prompts
from mlxnode.server.formats.completions.schema import CompletionBody
from mlxnode.server.prompt.conversation import Conversation
from mlxnode.server.prompt.lanes import off_loop
from mlxnode.server.prompt.tokenizers import TextTokenizer

HARD = "Zürich 日本語 👍🏽 👨‍👩‍👧 a\u0301  double  spaces\n\ttab ﷽ 🇨🇭"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny.make_chat_model(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenizer(folder) -> TextTokenizer:
    return TextTokenizer(folder)


def render(folder: Path, *messages: dict) -> str:
    text, _ = TextTokenizer(folder).chat_template.render(Conversation(list(messages)))
    return text


def rewrite(folder: Path, name: str, **changes) -> None:
    file = folder / name
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | changes))


@pytest.mark.slow
def test_a_worker_never_imports_mlx_nor_the_engine(folder):
    code = (
        "import sys, pathlib, mlxnode.server.worker\n"
        "from mlxnode.server.prompt.tokenizers import TextTokenizer\n"
        f"TextTokenizer(pathlib.Path({str(folder)!r}))\n"
        "loaded = {m for m in sys.modules if m.split('.')[0] == 'mlx'}\n"
        "assert not loaded and 'mlxnode.engine' not in sys.modules, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tokenizer_names_the_folder_it_cannot_load(tmp_path):
    with pytest.raises(ModelError, match=tmp_path.name):
        TextTokenizer(tmp_path)


def test_chat_prompt_writes_the_template_and_no_token_twice(tokenizer):
    ids = (tokenizer.chat_prompt(Conversation([{"role": "user", "content": "hé"}]))).ids
    assert ids[0] == 1 and ids.count(1) == 2 and ids.count(2) == 1
    assert len(ids) == len("user\nhassistant\n") + len("é".encode()) + 3 + 1


@pytest.mark.slow
@pytest.mark.parametrize("is_chat", [True, False])
async def test_the_event_loop_runs_while_a_megabyte_is_encoded(tokenizer, is_chat):
    text = "word and others " * 60_000
    if is_chat:
        conversation = Conversation([{"role": "user", "content": text}])
        encoding = off_loop(len(text), tokenizer.chat_prompt, conversation)
    else:
        encoding = tokenizer.encode([text])
    task = asyncio.ensure_future(encoding)
    started_at = last = time.perf_counter()
    longest = 0.0  # time without a turn of the loop
    while not task.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert longest < (last - started_at) / 2


async def test_encode_survives_many_threads(tokenizer):
    texts = ["word " * 5_000 + str(i) for i in range(16)]
    many = await asyncio.gather(*(tokenizer.encode([text]) for text in texts))
    assert [ids for [ids] in many] == await tokenizer.encode(texts)


@pytest.mark.parametrize(
    ("template", "shown"),
    [("", "system"), ("{# developer #}", "developer")],
)
def test_developer_becomes_system_unless_the_template_knows_it(tmp_path, template, shown):
    tiny.make_chat_model(tmp_path)
    rewrite(tmp_path, "tokenizer_config.json", chat_template=template + tiny.CHAT_TEMPLATE)
    text = render(tmp_path, {"role": "developer", "content": "x"})
    assert text.startswith(f"<|im_start|>{shown}\n")


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('roles must alternate') }}", "{{ messages[0].nothing.at_all }}"],
)
def test_template_errors_are_the_request_s(tmp_path, template):
    tiny.make_chat_model(tmp_path)
    rewrite(tmp_path, "tokenizer_config.json", chat_template=template)
    with pytest.raises(InvalidRequest) as caught:
        render(tmp_path, {"role": "user", "content": "x"})
    assert caught.value.param == "messages"


def test_templates_run_in_a_sandbox(tmp_path):
    tiny.make_chat_model(tmp_path)
    escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    rewrite(tmp_path, "tokenizer_config.json", chat_template=escape)
    with pytest.raises(InvalidRequest):
        render(tmp_path, {"role": "user", "content": "x"})


def test_stop_ids_come_from_all_the_files(tmp_path):
    tiny.make_chat_model(tmp_path)
    rewrite(tmp_path, "generation_config.json", eos_token_id=[0, 2])
    assert TextTokenizer(tmp_path).stop_ids == [0, 2]


def test_stop_ids_have_the_ends_that_the_template_writes_after_calls(tmp_path):
    tiny.make_tokenizer(tmp_path, FAMILIES["solar"].template)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_special_tokens(list(FAMILIES["solar"].tokens))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ends = {tiny.EOS_ID, tokenizer.token_to_id("<|calls|>")}
    assert set(TextTokenizer(tmp_path).stop_ids) == ends


def test_detokenizer_gives_whole_characters_and_loses_nothing(tokenizer):
    [ids] = tokenizer.prompt_ids([HARD])
    detokenizer = tokenizer.detokenizer([])
    pieces = [detokenizer.feed(token) for token in ids]
    assert "".join(pieces) == HARD
    assert not any("\ufffd" in piece for piece in pieces)


def test_detokenizer_keeps_the_space_that_begins_a_continuation(tokenizer):
    [prompt] = tokenizer.prompt_ids(["The capital of France is"])
    detokenizer = tokenizer.detokenizer(prompt)
    [ids] = tokenizer.prompt_ids([" Paris"])
    assert "".join(map(detokenizer.feed, ids)) == " Paris"


def test_detokenizer_drops_special_tokens_and_half_characters(tokenizer):
    [ids] = tokenizer.prompt_ids(["ok👍"])
    detokenizer = tokenizer.detokenizer([])
    assert "".join(map(detokenizer.feed, [0, *ids[:-1]])) == "ok"


def test_detokenizer_never_shows_the_prompt(tokenizer):
    [ids] = tokenizer.prompt_ids(["日本👍"])
    for cut in range(len(ids)):
        detokenizer = tokenizer.detokenizer(ids[:cut])
        text = "".join(map(detokenizer.feed, ids[cut:]))
        assert "日" not in text or cut < 3, cut


def test_detokenizer_shows_what_is_no_utf8(tokenizer):
    [ids] = tokenizer.prompt_ids(["é"])
    [letter] = tokenizer.prompt_ids(["a"])
    detokenizer = tokenizer.detokenizer([])
    assert "".join(map(detokenizer.feed, [ids[1], ids[1], *letter])) == "\ufffd\ufffda"


async def test_a_gap_is_told_in_the_notation_of_the_model(tmp_path, tokenizer):
    markers = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    tiny.make_chat_model(tmp_path)
    file = str(tmp_path / "tokenizer.json")
    with_gaps = Tokenizer.from_file(file)
    with_gaps.add_special_tokens(list(markers))
    with_gaps.save(file)
    loaded = TextTokenizer(tmp_path)
    assert loaded.fill_in_the_middle == markers and tokenizer.fill_in_the_middle is None
    model = SimpleNamespace(tokenizer=loaded, served=SimpleNamespace(context_length=64))
    body = CompletionBody(model="m", prompt=["a", "b"], suffix="c")
    before, between, after = (with_gaps.token_to_id(marker) for marker in markers)
    a, b, c = (with_gaps.token_to_id(letter) for letter in "abc")
    assert await encode_prompts(body, model) == [
        [before, a, between, c, after],
        [before, b, between, c, after],
    ]
    with pytest.raises(InvalidRequest, match="not token ids"):
        await encode_prompts(CompletionBody(model="m", prompt=[a], suffix="c"), model)
