"""What the node prints when it is ready."""

from collections.abc import Mapping, Sequence

from mlxnode import __version__
from mlxnode.config.file import LoadedConfig
from mlxnode.models.served import ServedModel


def ready_text(
    url: str, models: Sequence[ServedModel], failed: Mapping[str, str], loaded: LoadedConfig
) -> str:
    """The address, the models, and a request to try, for the user who started the server.

    ``failed`` has the models that are not served, by id, each with the reason.
    """
    models = [model for model in models if model.id not in failed]
    lines = [f"mlxnode {__version__} is ready at {url}/v1"]
    lines += [f"  {model.id} ({model.type}, {model.context_length} tokens)" for model in models]
    lines += [f"  {id} FAILED: {reason}" for id, reason in failed.items()]
    text = next((model for model in models if model.generates_text), models[0])
    if text.type == "embedding":
        path, body = "embeddings", f'{{"model": "{text.id}", "input": "Hello!"}}'
    elif text.type == "rerank":
        path = "rerank"
        body = f'{{"model": "{text.id}", "query": "Hello?", "documents": ["Hello!", "Bye!"]}}'
    elif text.type == "chat":
        path = "chat/completions"
        body = (
            f'{{"model": "{text.id}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
        )
    else:
        path, body = "completions", f'{{"model": "{text.id}", "prompt": "Once upon a time"}}'
    key = (
        '-H "Authorization: Bearer $MLXNODE_API_KEY" ' if loaded.config.api.require_auth else ""
    )
    lines += [
        "Try it:",
        f"  curl {url}/v1/{path} {key}-H 'Content-Type: application/json' -d '{body}'",
    ]
    return "\n".join(lines)
