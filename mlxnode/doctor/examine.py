"""The two results of ``mlxnode doctor``: the list of checks, and the report."""

import datetime
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mlxnode.config.file import load_config
from mlxnode.doctor import limits, metal_tests, node, slow, speed, system
from mlxnode.doctor.child import run_probe
from mlxnode.doctor.findings import Finding, Section
from mlxnode.doctor.hosts import check_hosts
from mlxnode.doctor.render import as_markdown
from mlxnode.errors import NodeError

_QUICK = 60.0  # seconds for the probe of the list
_LONG = 300.0  # seconds for a measurement


def examine(config: Path | None) -> Iterator[Section]:
    """The quick checks. They neither load a model nor disturb a node that runs."""
    yield system.check_system()
    section, loaded = node.check_node(config)
    yield section
    yield limits.check_limits()
    yield slow.check_slow(loaded)
    yield run_probe(
        "device",
        timeout=_QUICK,
        weights=node.weights_on_disk(loaded) if loaded else 0,
        memory_gb=loaded.config.engine.memory_gb if loaded else None,
        is_mac=system.is_mac(),
    )


def hosts(config: Path | None) -> Iterator[Section]:
    """The machines of an engine on several machines, or why they cannot be checked."""
    try:
        loaded = load_config(config)
    except NodeError as error:
        yield Section("Hosts", [Finding("configuration", "fail", str(error))])
        return
    models = []
    for model in loaded.config.api.models.values():
        local = loaded.folder / Path(model.path).expanduser()
        models.append(str(local.absolute()) if local.exists() else model.path)
    yield from check_hosts(loaded.config.engine.distributed, sorted(set(models)))


def report(config: Path | None, say: Callable[[str], None]) -> Iterator[Section]:
    """The checks and the measurements; takes minutes. ``say`` is told what comes next."""
    for section in examine(config):
        yield limits.report_limits() if section.title == "Limits" else section
    for name in ("device_facts", "kernel_variants"):
        say(name)
        yield run_probe(name, timeout=_LONG)
    for value in ("0", "1"):
        say(f"float32_products, MLX_ENABLE_TF32={value}")
        variables = {"MLX_ENABLE_TF32": value}
        yield run_probe("float32_products", timeout=_LONG, environment=variables)
    for name in ("float32_products", "bandwidth", "kv_updates", "demo_model"):
        say(name)
        yield run_probe(name, timeout=_LONG)
    say("import times")
    yield speed.import_times()
    say("metal tests")
    yield metal_tests.metal_tests()


def write_report(
    file: Path, sections: Iterable[Section], say: Callable[[str], None]
) -> list[Section]:
    """Write the report; returns its sections.

    Raises:
        NodeError: the file cannot be written. Found out before anything is measured.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    except OSError as error:
        raise NodeError(f"--report {file}: cannot be written: {error.strerror}") from error
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    done = list(sections)
    file.write_text(as_markdown(f"mlxnode report, {today}", done), encoding="utf-8")
    say(f"{file} is written. It has no keys, no user names and no paths of your home folder.")
    return done


def worst_code(sections: Iterable[Section]) -> int:
    """The exit code of the command: 1 if a check failed."""
    return int(any(f.status == "fail" for section in sections for f in section.findings))
