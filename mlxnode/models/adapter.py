"""The folder of an adapter that mlx-lm has trained: finds, fetches and checks its files."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mlxnode.errors import ModelError
from mlxnode.models import hub
from mlxnode.models.plain_files import check_folder, read_object
from mlxnode.models.safetensors import check_safetensors

ADAPTER_FILE = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PEFT_FILE = "adapter_model.safetensors"


class LoraParameters(BaseModel):
    """``lora_parameters``: the layers and the size of what is added to them."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    rank: Annotated[int, Field(ge=1, le=1 << 16)]
    scale: float  # of what is added
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # while it was trained
    keys: list[str] | None = None  # names of layers; None: all linear layers and embeddings


class AdapterConfig(BaseModel):
    """``adapter_config.json``; the keys that only training reads are left out.

    ``full``: the file replaces weights of the base, and adds nothing; the layers are None.
    """

    model_config = ConfigDict(strict=True)

    fine_tune_type: Literal["lora", "dora", "full"] = "lora"
    num_layers: int | None = None  # counted from the last one; 0 or less: all
    lora_parameters: LoraParameters | None = None

    @model_validator(mode="after")
    def _layers_are_known(self) -> "AdapterConfig":
        if self.fine_tune_type != "full":
            for name in ("num_layers", "lora_parameters"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name} is missing")
        return self


def find_adapter(path: str, base: Path) -> Path | None:
    """The folder of the adapter, or None if it is not on disk.

    Relative paths are relative to ``base``.

    Raises:
        ModelError: the path is no folder.
    """
    found = base / Path(path).expanduser()
    if not found.exists() and hub.is_repository_id(path):
        return hub.find_in_cache(path)
    if found.exists() and not found.is_dir():
        raise ModelError(f'adapter = "{path}": {found} is no folder')
    return found if found.exists() else None


def fetch_adapter(path: str, base: Path, meter: hub.Meter | None = None) -> Path:
    """The folder of the adapter, downloaded if it is not on disk.

    Raises:
        ModelError: there is no such folder, or the download failed.
    """
    if (found := find_adapter(path, base)) is not None:
        return found
    if not hub.is_repository_id(path):
        raise ModelError(f'adapter = "{path}": there is no folder {base / path}')
    try:
        return hub.fetch(path, meter)
    except ModelError as error:
        raise ModelError(f'adapter = "{path}": {error}') from error


def check_adapter(folder: Path) -> None:
    """Check the files of the adapter, except against the model below it.

    Raises:
        ModelError: a file is missing or broken, or the adapter is of another kind.
    """
    try:
        check_folder(folder)
        read_adapter_config(folder)
        if not (folder / ADAPTER_FILE).exists():
            raise ModelError(f"there is no {ADAPTER_FILE} in {folder}")
        check_safetensors(folder / ADAPTER_FILE)
    except ModelError as error:
        text = str(error)
        raise ModelError(text if text.startswith("adapter") else f"adapter: {text}") from error


def read_adapter_config(folder: Path) -> AdapterConfig:
    """The settings of the adapter in ``folder``.

    Raises:
        ModelError: the file is missing or broken, or the adapter is of another kind.
    """
    file = folder / ADAPTER_CONFIG
    if not file.exists():
        raise ModelError(f"adapter: there is no {ADAPTER_CONFIG} in {folder}")
    settings = read_object(file)
    if "peft_type" in settings or (folder / _PEFT_FILE).exists():
        raise ModelError(
            f"adapter: {folder} has the format of PEFT; one of mlx-lm has {ADAPTER_FILE}, and "
            "lora_parameters in its configuration"
        )
    try:
        return AdapterConfig.model_validate(settings)
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(str(part) for part in details["loc"])
        message = details["msg"].removeprefix("Value error, ")
        raise ModelError(f"adapter: {file}: {key + ': ' if key else ''}{message}") from None
