"""The node of the examples, and the packages for Node."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from documents.node import Examples, running_examples
from support.node_packages import install_packages


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examples]:
    """A node that serves the models of the documents."""
    with running_examples(tmp_path_factory.mktemp("examples")) as node:
        yield node


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed packages of OpenAI and Anthropic for Node."""
    folder = tmp_path_factory.mktemp("packages")
    install_packages(folder)
    return folder / "node_modules"
