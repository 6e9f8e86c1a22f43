"""The demo models: what is served without a configuration file and without other models."""

from typing import Any

from mlxnode.config.tables import ModelConfig


def demo_tables() -> dict[str, Any]:
    """The tables as a configuration file would hold them; the caller may change them.

    ``models.demo`` holds the files of these models; a test compares the names.
    """
    return {
        "api": {
            "require_auth": False,
            "models": {
                "smollm2-135m-instruct": {
                    "path": "demo/smollm2-135m-instruct",
                    "type": "chat",
                },
                "all-minilm-l6-v2": {"path": "demo/all-minilm-l6-v2", "type": "embedding"},
            },
        }
    }


def demo_models() -> dict[str, ModelConfig]:
    """The models of these tables, by id."""
    tables = demo_tables()["api"]["models"]
    return {id: ModelConfig.model_validate(table) for id, table in tables.items()}
