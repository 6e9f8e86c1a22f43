"""Whether this environment can do what ``[server] tracing`` asks for."""

import importlib.util
import os
from collections.abc import Mapping

from mlxnode.config.tables import ServerConfig
from mlxnode.errors import ConfigError

_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
# What each variable of OpenTelemetry may say here; the first is also the default.
_VARIABLES = {
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": ("http/protobuf",),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("http/protobuf",),
    "OTEL_TRACES_EXPORTER": ("otlp", "none"),
}


def check_tracing(
    server: ServerConfig, where: object, environment: Mapping[str, str] = os.environ
) -> None:
    """Check the packages and the variables of OpenTelemetry if ``server`` has ``tracing``.

    ``where`` is the name of the configuration, for errors.

    Raises:
        ConfigError: a package is missing, or a variable asks for what is not supported.
    """
    if not server.tracing:
        return
    if not all(map(_is_there, _MODULES)):
        raise ConfigError(
            f"{where}: server.tracing = true needs OpenTelemetry's packages: "
            "pip install 'mlxnode[tracing]'"
        )
    for name, allowed in _VARIABLES.items():
        value = environment.get(name, "").strip()
        if value and value.lower() not in allowed:
            raise ConfigError(
                f"{where}: server.tracing = true: the environment variable {name} must be "
                f"{' or '.join(allowed)}, got {value!r}"
            )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False
