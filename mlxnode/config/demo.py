"""The configuration without a configuration file: the demo models, on loopback."""

from typing import Any


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
