"""Supervisors over fake children, ended with the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_node import Node


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


@pytest.fixture
def start(folder) -> Iterator:
    nodes: list[Node] = []

    def start(**options: object) -> Node:
        nodes.append(Node(folder, **options))
        return nodes[-1]

    start.folder = folder
    yield start
    for node in nodes:
        node.end()
