"""Who reaches the node, and who reads its secrets: what is refused, and what is warned of."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mlxnode.config.keys import EXAMPLE_KEY, ApiKey, digest_of
from mlxnode.config.permissions import exposure_of, is_writable_by_all
from mlxnode.config.tables import ApiConfig, NodeConfig
from mlxnode.errors import ConfigError


def is_loopback(host: str) -> bool:
    """True if only this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(api: ApiConfig, file: Path | None, host: str, keys: list[ApiKey]) -> None:
    """An address that other machines can reach needs a secret key, or require_auth = false.

    Raises:
        ConfigError: other machines can reach the address, and neither is configured.
    """
    if is_loopback(host):
        return
    if file is None:
        raise ConfigError(
            f'api.address = "{api.address}" can be reached from other machines: '
            "write a configuration file with a key, or with require_auth = false"
        )
    example = digest_of(EXAMPLE_KEY)
    known = [key for key in keys if key.digest == example]
    if any(api.require_auth or key.is_admin for key in known):
        raise ConfigError(
            "the key is still the example's, and api.address = "
            f'"{api.address}" can be reached from other machines: choose a key of your own'
        )


def check_files(config: NodeConfig, file: Path | None, folder: Path, host: str) -> list[str]:
    """Warnings of files with secrets that other users of this machine can read or change.

    Relative paths are relative to ``folder``.

    Raises:
        ConfigError: there is such a file, and other machines can reach the node.
    """
    exposed = list(_exposed_files(config, file, folder))
    if exposed and not is_loopback(host):
        raise ConfigError(
            f'{exposed[0]} (it holds a secret, and api.address = "{config.api.address}" can '
            "be reached from other machines)"
        )
    if file is not None and not exposed and is_writable_by_all(file):
        return ["the file can be changed by all users: use chmod o-w"]
    return exposed


def secret_files(api: ApiConfig) -> dict[str, str]:
    """The files that hold secrets of the API, by the keys that name them."""
    named = {
        "api.api_key_file": api.api_key_file,
        "api.admin_key_file": api.admin_key_file,
        "api.tls_key": api.tls_key,
    } | {f"api.keys.{name}.key_file": table.key_file for name, table in api.keys.items()}
    return {key: file for key, file in named.items() if file is not None}


def _own_secrets(config: NodeConfig) -> set[str]:
    """The secrets in the tables themselves, which are neither in files nor digests."""
    api, distributed = config.api, config.engine.distributed
    own = [api.api_key, api.admin_key, *(table.key for table in api.keys.values())]
    if distributed is not None:
        own.append(distributed.key)
    redis = config.server.shared_limits.redis
    if redis is not None and urlsplit(redis.get_secret_value()).password:
        own.append(redis)
    return {key.get_secret_value() for key in own if key is not None}


def _exposed_files(config: NodeConfig, file: Path | None, folder: Path) -> Iterator[str]:
    """What is wrong with each file that holds a secret; the example's key is none."""
    if file is not None and _own_secrets(config) - {EXAMPLE_KEY} and (how := exposure_of(file)):
        yield f"the file {how}: use chmod 600"
    files = secret_files(config.api)
    distributed = config.engine.distributed
    if distributed is not None and distributed.key_file is not None:
        files["engine.distributed.key_file"] = distributed.key_file
    for key, name in files.items():
        if how := exposure_of(folder / Path(name).expanduser()):
            yield f'{key} = "{name}" {how}: use chmod 600'
