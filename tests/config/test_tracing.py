"""A node with tracing starts only where it can trace, and says what is missing."""

import os
import subprocess
import sys

import pytest

from mlxnode.config.tables import ServerConfig
from mlxnode.config.tracing import check_tracing
from mlxnode.errors import ConfigError

TRACING = ServerConfig(tracing=True)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_TRACES_EXPORTER": "OTLP", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
)
def test_check_tracing_accepts_what_the_exporter_does(environment):
    check_tracing(TRACING, "config.toml", environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
    ],
)
def test_check_tracing_names_a_variable_that_asks_for_more(name, value):
    with pytest.raises(ConfigError, match=rf"^config.toml: .*{name} must be .*{value}"):
        check_tracing(TRACING, "config.toml", {name: value})
    check_tracing(ServerConfig(), "config.toml", {name: value})


@pytest.mark.slow
def test_node_without_the_packages_says_how_to_install_them(tmp_path):
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").touch()  # hides those that are installed
    config = tmp_path / "config.toml"
    config.write_text(
        '[api]\naddress = "127.0.0.1:0"\nrequire_auth = false\n[server]\ntracing = true\n'
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "mlxnode", "serve", "--config", str(config)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "needs OpenTelemetry's packages: pip install 'mlxnode[tracing]'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_worker_without_tracing_imports_nothing_of_opentelemetry():
    code = (
        "import sys, mlxnode.server.worker; "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.strip() == "[]", ended.stderr
