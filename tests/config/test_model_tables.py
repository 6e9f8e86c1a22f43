"""The tables of the models: keys that fit their types, and their values."""

import pytest
from support.config_file import MODEL, OPEN, error_of

from mlxnode.config.file import load_config
from mlxnode.config.tables import THINKING_BUDGET_MESSAGE, ModelConfig


def test_config_keys_have_to_fit_the_type_of_the_model(write):
    assert "dimensions does not apply to a chat model" in error_of(
        write(OPEN + MODEL + "dimensions = 3")
    )
    assert "matryoshka_dimensions does not apply to a chat model" in error_of(
        write(OPEN + MODEL + "matryoshka_dimensions = [3]")
    )


@pytest.mark.parametrize(
    ("engine", "model", "expected"),
    [(None, None, None), (8, None, 8), (8, 4, 4), (8, 0, None), (None, 4, 4), (None, 0, None)],
)
def test_config_kv_cache_bits_of_a_model_come_before_the_engines(
    write, engine, model, expected
):
    lines = [OPEN + MODEL, "" if model is None else f"kv_cache_bits = {model}", "[engine]"]
    file = write("\n".join([*lines, "" if engine is None else f"kv_cache_bits = {engine}"]))
    config = load_config(file, environ={}).config
    found = config.engine.for_model(config.api.models["m"].kv_cache_bits)
    assert found.kv_cache_bits == expected
    assert found.model_copy(update={"kv_cache_bits": engine}) == config.engine


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("kv_cache_bits = 2", "kv_cache_bits = 2: input should be 0, 4 or 8"),
        ('type = "embedding"\nkv_cache_bits = 8', "does not apply to an embedding model"),
        ('type = "rerank"\nkv_cache_bits = 8', "kv_cache_bits does not apply to a reranker"),
        ('type = "embedding"\nadapter = "a"', "adapter does not apply to an embedding model"),
        ('type = "rerank"\nadapter = "a"', "adapter does not apply to a reranker"),
        ('adapter = ""', "adapter = '': string should match pattern"),
        ("quantize = 3", "quantize = 3: input should be 4 or 8"),
        ("quantize = true", "quantize = True: input should be 4 or 8"),
        ('type = "rerank"\ndefault_temperature = 1.0', "does not apply to a reranker"),
        ('type = "rerank"\ndimensions = 8', "dimensions does not apply to a reranker"),
        ('type = "rerank"\nmatryoshka_dimensions = [8]', "does not apply to a reranker"),
        ('type = "rerank"\nthinking_budget = 8', "applies to chat models only"),
    ],
)
def test_config_refuses_kv_cache_bits_that_a_model_cannot_have(write, line, error):
    table = MODEL.replace('type = "chat"\n', "") if "type" in line else MODEL
    assert error in error_of(write(OPEN + table + line))


def test_config_a_thinking_budget_has_a_closing_message(write):
    def table(*lines: str) -> ModelConfig:
        file = write("\n".join([OPEN + MODEL, *lines]))
        return load_config(file, environ={}).config.api.models["m"]

    assert table().thinking_budget is None
    found = table("thinking_budget = 0")
    assert found.thinking_budget == 0
    assert found.thinking_budget_message == THINKING_BUDGET_MESSAGE
    assert table('thinking_budget_message = ""').thinking_budget_message == ""


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("thinking_budget = -1", "thinking_budget = -1: "),
        ('type = "completion"\nthinking_budget = 5', "thinking_budget applies to chat models"),
        (
            'type = "embedding"\nthinking_budget_message = ""',
            "thinking_budget_message applies to chat models",
        ),
    ],
)
def test_config_refuses_a_thinking_budget_that_a_model_cannot_have(write, lines, error):
    table = MODEL.replace('type = "chat"\n', "") if "type" in lines else MODEL
    assert error in error_of(write(OPEN + table + lines))


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("completion", "a completion model"),
        ("embedding", "an embedding model"),
        ("rerank", "a reranker"),
    ],
)
def test_config_control_tokens_are_allowed_to_chat_models_alone(write, kind, name):
    table = MODEL.replace('"chat"', f'"{kind}"') + "allow_control_tokens = true"
    error = error_of(write(OPEN + table))
    assert f"allow_control_tokens does not apply to {name}" in error
    loaded = load_config(write(OPEN + MODEL + "allow_control_tokens = true"), environ={})
    assert loaded.config.api.models["m"].allow_control_tokens is True
