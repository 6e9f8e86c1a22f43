"""What is done to a folder of a model, and the reason that the user gets for it."""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

Damage = Callable[[Path], object]


def write(name: str, content: bytes | str) -> Damage:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(data)


def change(name: str, **values: object) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / name
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | values))

    return damage


def config(**values: object) -> Damage:
    return change("config.json", **values)


def replaced(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return damage


def sparse(name: str, size: int) -> Damage:
    def make(file: Path) -> None:
        with file.open("wb") as stream:
            stream.truncate(size)

    return replaced(name, make)


def listening(file: Path) -> None:
    here = os.getcwd()
    os.chdir(file.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(file.name)
    finally:
        os.chdir(here)


def tensors(header: object, size: int = 64, *, length: int | None = None) -> Damage:
    """A file of weights with this header, and ``size`` bytes after it."""
    data = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(data) if length is None else length
    return write("model.safetensors", struct.pack("<Q", length) + data + bytes(size))


def tensor(start: object = 0, end: object = 64, **values: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [4, 4], "data_offsets": [start, end]} | values


def index(name: object) -> Damage:
    return write("model.safetensors.index.json", json.dumps({"weight_map": {"w": name}}))


DEEP = "[" * 100_000
CONFIG, TOKENIZER = "config.json", "tokenizer_config.json"
WEIGHTS = "model.safetensors"
# What is done to a model that works, and the reason that the user gets.
CASES: dict[str, tuple[Damage, str]] = {
    # config.json
    "no config": (lambda f: (f / CONFIG).unlink(), "no config.json"),
    "empty config": (write(CONFIG, ""), "config.json cannot be read"),
    "cut config": (write(CONFIG, '{"model_type": "ll'), "config.json cannot be read"),
    "config in UTF-16": (write(CONFIG, '{"a": 1}'.encode("utf-16")), "is no UTF-8"),
    "config with a BOM": (write(CONFIG, "\ufeff{}"), "config.json cannot be read"),
    "config of zeros": (write(CONFIG, bytes(999)), "config.json cannot be read"),
    "config is a list": (write(CONFIG, "[]"), "expected a JSON object"),
    "deep config": (write(CONFIG, DEEP), "nested too deeply"),
    "deep value": (write(CONFIG, '{"a":' * 50_000), "nested too deeply"),
    "huge config": (sparse(CONFIG, 1 << 27), "has 134,217,728 bytes"),
    "config is a folder": (replaced(CONFIG, Path.mkdir), "config.json is no file"),
    "config is a FIFO": (replaced(CONFIG, os.mkfifo), "neither a file nor a folder"),
    "config is a socket": (replaced(CONFIG, listening), "neither a file nor a folder"),
    "config is a device": (
        replaced(CONFIG, lambda f: f.symlink_to("/dev/zero")),
        "neither a file nor a folder",
    ),
    "config is a loop of links": (
        replaced(CONFIG, lambda f: f.symlink_to(f)),
        "no config.json",
    ),
    "no type": (config(model_type=None), "names no model_type"),
    "a type that is a list": (config(model_type=["llama"]), "names no model_type"),
    "an unknown type": (config(model_type="abacus"), "none that mlx-lm knows"),
    "a type outside the folder": (config(model_type="../../x"), "none that mlx-lm knows"),
    "a million layers": (
        config(num_hidden_layers=10**6),
        "num_hidden_layers must be an integer from 0 to 20, the number of tensors, got 1000000",
    ),
    "layers of another name": (config(n_layers=10**6), "n_layers must be an integer"),
    "negative layers": (config(num_hidden_layers=-1), "from 0 to 20, .* got -1"),
    "half a layer": (config(num_hidden_layers=1.5), r"got 1\.5"),
    "layers as a text": (config(num_hidden_layers="two"), "got 'two'"),
    "layers that are true": (config(num_hidden_layers=True), "got True"),
    "inner layers": (config(text_config={"num_hidden_layers": 10**9}), "got 1000000000"),
    "a huge width": (config(hidden_size=10**9), "hidden_size must be an integer from 0 to"),
    "a width of many digits": (config(hidden_size=10**4000), "got one of many digits"),
    "a width that is no number": (
        write(CONFIG, '{"model_type": "llama", "hidden_size": NaN}'),
        "got nan",
    ),
    "an infinite width": (config(hidden_size=float("inf")), "got inf"),
    "widths in a list": (config(intermediate_size=[1, 10**12]), "got 1000000000000"),
    "a huge vocabulary": (config(vocab_size=2**40), "vocab_size must be an integer"),
    "a billion heads": (config(num_attention_heads=10**9), "num_attention_heads must"),
    "a billion experts": (config(num_experts=10**9), "num_experts must be"),
    "a huge head": (config(head_dim=2**31), "head_dim must be"),
    # the other files of JSON
    "tokenizer settings are cut": (write(TOKENIZER, "{"), "tokenizer_config.json cannot"),
    "tokenizer settings are deep": (write(TOKENIZER, DEEP), "nested too deeply"),
    "tokenizer settings are a list": (write(TOKENIZER, "[1]"), "expected a JSON object"),
    "tokenizer settings are huge": (sparse(TOKENIZER, 1 << 27), "bytes; .* possible"),
    "tokenizer settings are a FIFO": (replaced(TOKENIZER, os.mkfifo), "neither a file"),
    "no template": (change(TOKENIZER, chat_template=None), "no chat template"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer in"),
    "tokenizer is a FIFO": (replaced("tokenizer.json", os.mkfifo), "neither a file"),
    "tokenizer is huge": (sparse("tokenizer.json", 2 << 30), "bytes; .* possible"),
    "a template is a FIFO": (replaced("chat_template.jinja", os.mkfifo), "neither a file"),
    "an inner template is a FIFO": (
        lambda f: (
            (f / "additional_chat_templates").mkdir(),
            os.mkfifo(f / "additional_chat_templates" / "x.jinja"),
        ),
        "neither a file",
    ),
    "special tokens are a FIFO": (replaced("special_tokens_map.json", os.mkfifo), "neither"),
    # the weights
    "no weights": (lambda f: (f / WEIGHTS).unlink(), r"no \*\.safetensors files"),
    "empty weights": (write(WEIGHTS, b""), "cut off"),
    "weights of seven bytes": (write(WEIGHTS, b"1234567"), "cut off"),
    "weights are text": (write(WEIGHTS, "version https://git-lfs"), "cut off"),
    "weights are a folder": (replaced(WEIGHTS, Path.mkdir), "is no file"),
    "weights are a FIFO": (replaced(WEIGHTS, os.mkfifo), "neither a file"),
    "a header of 2^60": (tensors(b"{}", length=1 << 60), "cut off"),
    "a header of 2^64 - 1": (tensors(b"{}", length=(1 << 64) - 1), "cut off"),
    "a header of zeros": (tensors(bytes(64)), "no readable safetensors file"),
    "a deep header": (tensors(b'{"a":' * 50_000), "too deep"),
    "a header that is a list": (tensors([]), "no object"),
    "a header that is cut": (tensors(b'{"w": {'), "no readable safetensors file"),
    "a tensor that is a list": (tensors({"w": []}), "'w' is no object"),
    "a tensor of an unknown type": (tensors({"w": tensor(dtype="F7")}), "unknown type 'F7'"),
    "a type that is a number": (tensors({"w": tensor(dtype=7)}), "unknown type"),
    "a negative shape": (tensors({"w": tensor(shape=[-4, -4])}), "no shape"),
    "a shape of texts": (tensors({"w": tensor(shape=["4"])}), "no shape"),
    "a huge shape": (tensors({"w": tensor(shape=[2**40, 2**40])}), "other data_offsets"),
    "a shape of 2^70": (tensors({"w": tensor(shape=[2**70])}), "no shape"),
    "too many dimensions": (tensors({"w": tensor(shape=[1] * 99)}), "no shape"),
    "a shape larger than its bytes": (tensors({"w": tensor(shape=[5, 4])}), "other data_off"),
    "offsets of another order": (tensors({"w": tensor(64, 0)}), "other data_offsets"),
    "negative offsets": (tensors({"w": tensor(-64, 0)}), "no data_offsets"),
    "one offset": (tensors({"w": tensor(data_offsets=[0])}), "no data_offsets"),
    "offsets that are no numbers": (tensors({"w": tensor("0", "64")}), "no data_offsets"),
    "offsets beyond the file": (tensors({"w": tensor(64, 128)}), "download it again"),
    "tensors over one another": (
        tensors({"w": tensor(), "v": tensor()}),
        "lies over another one",
    ),
    "a name twice": (
        tensors(b'{"w": %b, "w": %b}' % ((json.dumps(tensor()).encode(),) * 2)),
        "a name is there twice",
    ),
    "weights that are cut": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1]),
        "download it again",
    ),
    # the index of the weights
    "an index beside": (index("../model.safetensors"), "no name of a file in this folder"),
    "an index from the root": (index("/etc/passwd"), "no name of a file in this folder"),
    "an index of numbers": (index(5), "no name of a file"),
    "an index of lists": (index([WEIGHTS]), "no name of a file"),
    "an index of a missing file": (index("model-2.safetensors"), "1 of 1 files of weights"),
    "an index without a map": (
        write("model.safetensors.index.json", "{}"),
        "weight_map must be an object",
    ),
    "a deep index": (write("model.safetensors.index.json", DEEP), "nested too deeply"),
}
