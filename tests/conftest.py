"""The demo models, fetched once into the user's cache."""

from pathlib import Path

import pytest

from mlxnode.models.demo import fetch_demo_model


@pytest.fixture(scope="session")
def demo_chat() -> Path:
    """SmolLM2-135M-Instruct, a GGUF file."""
    return fetch_demo_model("smollm2-135m-instruct")


@pytest.fixture(scope="session")
def demo_embedding() -> Path:
    """all-MiniLM-L6-v2, a sentence-transformers folder."""
    return fetch_demo_model("all-minilm-l6-v2")
