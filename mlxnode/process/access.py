"""Who may enter the node, of a configuration."""

from mlxnode.config.file import LoadedConfig
from mlxnode.messages.control import Access


def access_of(loaded: LoadedConfig) -> Access:
    """What a worker has to know of a configuration to let requests in."""
    api = loaded.config.api
    return Access(
        keys=loaded.api_keys,
        is_limited=api.is_limited,
        certificate=loaded.certificate,
        cors_origins=api.cors_origins if api.cors_enabled else [],
    )
