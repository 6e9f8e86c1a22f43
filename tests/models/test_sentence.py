import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
from support import tiny

from mlxnode.errors import ModelError
from mlxnode.kernels.pool import MODES
from mlxnode.models.sentence.config import read_sentence_config
from mlxnode.models.sentence.modules import PoolingMode
from mlxnode.models.sentence.tokenizer import SentenceTokenizer

FIXTURES = Path(__file__).parent.parent / "fixtures" / "embeddings"
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "vocab_size": 259,
    "max_position_embeddings": 64,
}
TRANSFORMER = {"path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
DENSE = {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}
NORMALIZE = {"path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}


@pytest.fixture
def folder(tmp_path):
    """A plain BERT folder with a byte tokenizer."""
    tiny.make_tokenizer(tmp_path)
    write(tmp_path, "config.json", BERT)
    return tmp_path


def write(folder: Path, name: str, value) -> None:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))


def write_modules(folder: Path, *modules: dict, pooling: dict | None = None) -> None:
    write(folder, "modules.json", list(modules))
    write(folder, "1_Pooling/config.json", pooling or {"pooling_mode": "mean"})


def test_read_sentence_config_defaults_of_a_plain_encoder(folder):
    config = read_sentence_config(folder)
    assert (config.pooling, config.normalize) == ("mean", True)
    assert (config.dimensions, config.vocabulary_size, config.max_length) == (32, 259, 64)
    assert (config.default_prompt, config.matryoshka, config.dense) == ("", (), ())


def test_read_sentence_config_defaults_of_a_plain_decoder(folder):
    write(folder, "config.json", BERT | {"model_type": "qwen3"})
    config = read_sentence_config(folder)
    assert (config.pooling, config.normalize) == ("last", True)


@pytest.mark.parametrize(
    ("settings", "pooling"),
    [
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_lasttoken": True, "include_prompt": True}, "last"),
        ({"pooling_mode_cls_token": True, "word_embedding_dimension": 32}, "cls"),
        ({"word_embedding_dimension": 32}, "mean"),
    ],
)
def test_read_sentence_config_pooling(folder, settings, pooling):
    write_modules(folder, TRANSFORMER, POOLING, pooling=settings)
    config = read_sentence_config(folder)
    assert (config.pooling, config.normalize) == (pooling, False)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, r"cls \+ mean"),
    ],
)
def test_read_sentence_config_refuses_pooling_by_name(folder, settings, name):
    write_modules(folder, TRANSFORMER, POOLING, pooling=settings)
    with pytest.raises(ModelError, match=f"pooling {name} is not supported"):
        read_sentence_config(folder)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([TRANSFORMER], "no Pooling module"),
        ([], "no Pooling module"),
        ([TRANSFORMER | {"path": "0_Transformer"}, POOLING], "0_Transformer"),
        ([TRANSFORMER, POOLING, {"path": "2", "type": "a.LSTM"}], r"module 2 \(LSTM\)"),
        ([TRANSFORMER, POOLING, NORMALIZE, DENSE], r"module 3 \(Dense\)"),
        ([{"path": "", "type": "a.StaticEmbedding"}], r"module 0 \(StaticEmbedding\)"),
    ],
)
def test_read_sentence_config_refuses_modules_by_name(folder, modules, message):
    write_modules(folder, *modules)
    with pytest.raises(ModelError, match=message):
        read_sentence_config(folder)


def test_read_sentence_config_reads_what_sentence_transformers_wrote():
    config = read_sentence_config(FIXTURES / "bert")
    assert (config.pooling, config.normalize, config.dimensions) == ("cls", True, 16)
    (dense,) = config.dense
    assert (dense.in_features, dense.out_features, dense.bias) == (32, 16, True)
    assert dense.activation == "Tanh"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_features": 64, "out_features": 8}, "takes 64 features, not 32"),
        ({"in_features": 32}, "out_features must be a positive integer, got None"),
        ({"in_features": 32, "out_features": 8, "use_residual": True}, "plain Dense"),
        ({"in_features": 32, "out_features": 8, "activation_function": "a.Mish"}, "Mish"),
    ],
)
def test_read_sentence_config_refuses_dense_by_name(folder, settings, message):
    write_modules(folder, TRANSFORMER, POOLING, DENSE)
    write(folder, "2_Dense/config.json", settings)
    (folder / "2_Dense" / "model.safetensors").touch()
    with pytest.raises(ModelError, match=message):
        read_sentence_config(folder)


def test_read_sentence_config_max_length_is_the_smallest_limit(folder):
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder, "tokenizer_config.json", tokenizer | {"model_max_length": 48})
    assert read_sentence_config(folder).max_length == 48
    write(folder, "sentence_bert_config.json", {"max_seq_length": 56})
    assert read_sentence_config(folder).max_length == 56
    write(folder, "sentence_bert_config.json", {"max_seq_length": 1000})
    assert read_sentence_config(folder).max_length == 64


def test_read_sentence_config_max_length_of_roberta_leaves_out_padding_positions(folder):
    roberta = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    write(folder, "config.json", BERT | roberta)
    assert read_sentence_config(folder).max_length == 512


def test_read_sentence_config_prompts(folder):
    prompts = {"query": "query: ", "document": "passage: "}
    write(folder, "config_sentence_transformers.json", {"prompts": prompts})
    assert read_sentence_config(folder).default_prompt == ""
    named = {"prompts": prompts, "default_prompt_name": "query"}
    write(folder, "config_sentence_transformers.json", named)
    assert read_sentence_config(folder).default_prompt == "query: "


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "passage": "p: ", "corpus": "c: "}, None, ("q: ", "p: ")),
        ({"query": "q: "}, "query", ("q: ", "q: ")),
        ({"other": "o: "}, "other", ("o: ", "o: ")),
        ({"query": "", "document": None, "other": "o: "}, "other", ("", "")),
        ({}, None, ("", "")),
    ],
)
def test_read_sentence_config_prompts_of_a_search(folder, prompts, default, expected):
    """As encode_query and encode_document of sentence-transformers choose them."""
    settings = {"prompts": prompts, "default_prompt_name": default}
    write(folder, "config_sentence_transformers.json", settings)
    config = read_sentence_config(folder)
    assert (config.query_prompt, config.document_prompt) == expected


def test_read_sentence_config_refuses_broken_prompts(folder):
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "other"}
    write(folder, "config_sentence_transformers.json", settings)
    with pytest.raises(ModelError, match="default_prompt_name 'other'"):
        read_sentence_config(folder)
    settings["default_prompt_name"] = "query"
    write(folder, "config_sentence_transformers.json", settings)
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    write_modules(folder, TRANSFORMER, POOLING, pooling=pooling)
    with pytest.raises(ModelError, match="without the prompt's tokens"):
        read_sentence_config(folder)


def test_read_sentence_config_matryoshka(folder):
    write(folder, "config.json", BERT | {"matryoshka_dimensions": [32, 8, 16]})
    assert read_sentence_config(folder).matryoshka == (8, 16, 32)
    write(folder, "config.json", BERT | {"is_matryoshka": True})
    config = read_sentence_config(folder)
    assert config.matryoshka == tuple(range(1, config.dimensions + 1))
    write(folder, "config.json", BERT | {"matryoshka_dimensions": "all"})
    with pytest.raises(ModelError, match="must be sizes, got 'all'"):
        read_sentence_config(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", None])
def test_read_sentence_config_names_a_broken_file(folder, text):
    if text is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json:? (cannot be read|expected)"):
        read_sentence_config(folder)


def test_tokenizer_encodes_each_text_whole(folder):
    tokenizer = SentenceTokenizer(folder, read_sentence_config(folder))
    long = "x" * 500
    ids = list(tokenizer.encode(["ab", "", "🙂", long]))
    assert [len(i) for i in ids] == [2, 0, 4, 500]


def test_tokenizer_ignores_truncation_and_padding_of_the_file(folder):
    file = json.loads((folder / "tokenizer.json").read_text())
    file["truncation"] = {
        "direction": "Right",
        "max_length": 4,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    file["padding"] = {
        "strategy": {"Fixed": 8},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }
    write(folder, "tokenizer.json", file)
    tokenizer = SentenceTokenizer(folder, read_sentence_config(folder))
    assert [len(ids) for ids in tokenizer.encode(["abcdef", "a"])] == [6, 1]


def test_tokenizer_puts_the_default_prompt_first(folder):
    plain = SentenceTokenizer(folder, read_sentence_config(folder))
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    write(folder, "config_sentence_transformers.json", settings)
    prompted = SentenceTokenizer(folder, read_sentence_config(folder))
    assert list(prompted.encode(["ab"])) == list(plain.encode(["query: ab"]))


def test_tokenizer_puts_the_prompts_of_a_search_first(folder):
    plain = SentenceTokenizer(folder, read_sentence_config(folder))
    settings = {"prompts": {"query": "query: ", "passage": "passage: "}}
    write(folder, "config_sentence_transformers.json", settings)
    prompted = SentenceTokenizer(folder, read_sentence_config(folder))
    queries, documents = prompted.encode_queries(["ab"], 9), ["passage: ab", "passage: c"]
    assert list(queries) == list(plain.encode(["query: ab"]))
    assert list(prompted.encode_documents(["ab", "c"], 20)) == list(plain.encode(documents))
    assert list(prompted.encode(["ab"])) == list(plain.encode(["ab"]))


def test_tokenizer_lowercases_when_the_model_says_so(folder):
    plain = SentenceTokenizer(folder, read_sentence_config(folder))
    write(folder, "sentence_bert_config.json", {"do_lower_case": True})
    lowercasing = SentenceTokenizer(folder, read_sentence_config(folder))
    upper, lower = (list(plain.encode([text])) for text in ("ABC", "abc"))
    assert list(lowercasing.encode(["ABC"])) == lower != upper


def test_tokenizer_is_safe_in_threads(folder):
    tokenizer = SentenceTokenizer(folder, read_sentence_config(folder))
    texts = [chr(97 + i) * (i + 1) for i in range(20)]
    expected = [list(tokenizer.encode([text])) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(lambda text: list(tokenizer.encode([text])), texts * 20))
            == expected * 20
        )


def test_tokenizer_names_a_folder_without_one(tmp_path):
    write(tmp_path, "config.json", BERT)
    config = read_sentence_config(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer"):
        SentenceTokenizer(tmp_path, config)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be loaded"):
        SentenceTokenizer(tmp_path, config)


def test_pooling_modes_are_those_of_the_kernels():
    # The kernels import nothing of the server, and this room imports no mlx.
    assert set(get_args(PoolingMode)) == set(MODES)


@pytest.mark.slow  # starts a process
def test_sentence_does_not_import_mlx(folder):
    program = (
        "import sys; from pathlib import Path; from mlxnode.models.sentence.config import *; "
        "from mlxnode.models.sentence.tokenizer import *;"
        f"folder = Path({str(folder)!r});"
        "tokenizer = SentenceTokenizer(folder, read_sentence_config(folder));"
        "print(list(tokenizer.encode(['a'])));"
        "assert not any(name.split('.')[0] == 'mlx' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
