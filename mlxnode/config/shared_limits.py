"""Whether this environment can do what ``[server.shared_limits]`` asks for."""

import importlib.util

from mlxnode.config.several import SharedLimitsConfig
from mlxnode.errors import ConfigError


def check_shared_limits(settings: SharedLimitsConfig, where: object) -> None:
    """Check that the package of Redis is there if the limits are counted in Redis.

    ``where`` is the name of the configuration, for errors.

    Raises:
        ConfigError: the package is missing.
    """
    if settings.redis is not None and importlib.util.find_spec("redis") is None:
        raise ConfigError(
            f"{where}: server.shared_limits.redis needs the package redis: "
            "pip install 'mlxnode[redis]'"
        )
