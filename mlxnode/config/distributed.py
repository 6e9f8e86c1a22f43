"""Checks of ``[engine.distributed]`` that need its files."""

from pathlib import Path

from mlxnode.config.hostfile import read_hostfile
from mlxnode.config.several import engine_key
from mlxnode.config.tables import EngineConfig
from mlxnode.errors import ConfigError


def placed_engine(config: EngineConfig, folder: Path, where: str) -> EngineConfig:
    """``config`` with absolute paths in ``distributed``, whose files are read once.

    Raises:
        ConfigError: a file is wrong, a key is missing, or another setting does not go with it.
    """
    distributed = config.distributed
    if distributed is None:
        return config
    try:
        files = {
            name: str((folder / Path(file).expanduser()).absolute())
            for name in ("hostfile", "key_file")
            if (file := getattr(distributed, name)) is not None
        }
        distributed = distributed.model_copy(update=files)
        read_hostfile(distributed)
        key = engine_key(distributed)
    except (ConfigError, RuntimeError) as error:
        raise ConfigError(f"{where}: {error}") from error
    if distributed.key is not None and distributed.key_file is not None:
        raise ConfigError(f"{where}: engine.distributed: set one of key and key_file")
    if key is None and not distributed.launch:
        raise ConfigError(
            f"{where}: engine.distributed.launch = false: the ranks that you start need a key: "
            "set engine.distributed.key or key_file here and on each machine, or "
            "$MLXNODE_ENGINE_KEY (openssl rand -hex 32 makes one)"
        )
    if config.prefix_cache_disk_gb:
        raise ConfigError(
            f"{where}: engine.prefix_cache_disk_gb = {config.prefix_cache_disk_gb:g}: prefixes "
            "on disk are for one machine; remove it, or [engine.distributed]"
        )
    return config.model_copy(update={"distributed": distributed})
