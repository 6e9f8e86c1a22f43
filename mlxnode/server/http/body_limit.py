"""The largest body that a route takes: no more than its models can read, and as configured."""

from sanic import Request

from mlxnode.server.http.context import context_of
from mlxnode.server.registry.registry import Registry

_FORM = 65_536  # bytes of a form around its file
_LEAST = 1024 * 1024  # bytes, for tools, ids and notes beside the text
# A token stands for at most 128 characters in usual vocabularies, and JSON writes some
# characters with an escape. A longer text gets the error about the context.
_PER_TOKEN = 256


def limit_of(request: Request, registry: Registry) -> int:
    """The largest body of ``request`` in bytes, for the models of ``registry``.

    Only conversations are bounded by a context: other routes take many texts, or cut them.
    """
    if hasattr(request.route and request.route.ctx, "form"):
        return context_of(request).config.server.batches.max_file_bytes + _FORM
    configured = context_of(request).config.server.max_body_bytes
    if request.method != "POST" or request.route is None:
        return min(_LEAST, configured)
    if getattr(request.route.ctx, "models", None) != ("chat",):
        return configured
    contexts = (m.context_length for m in registry.served.values() if m.type == "chat")
    return min(_LEAST + max(contexts, default=0) * _PER_TOKEN, configured)
