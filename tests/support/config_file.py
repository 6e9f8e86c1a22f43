"""Parts of a configuration file, and what is said of a wrong one."""

from pathlib import Path

import pytest

from mlxnode.config.file import load_config
from mlxnode.errors import ConfigError

MODEL = '[api.models.m]\npath = "/m"\ntype = "chat"\n'
OPEN = "[api]\nrequire_auth = false\n"


def error_of(file: Path | None, **arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, **({"environ": {}} | arguments))
    assert caught.value.exit_code == 2
    return str(caught.value)
