"""What a folder of a model is for, from its small files."""

from pathlib import Path

from mlxnode.config.tables import ModelType
from mlxnode.models.describe import has_chat_template
from mlxnode.models.plain_files import read_object
from mlxnode.models.sentence.config import ENCODER_TYPES


def type_of_folder(folder: Path) -> ModelType:
    """The type that serves the model in ``folder``, as far as its files tell.

    Raises:
        ModelError: config.json is missing or broken.
    """
    config = read_object(folder / "config.json")
    architectures = config.get("architectures") or [""]
    is_classifier = str(architectures[0]).endswith("ForSequenceClassification")
    if config.get("model_type") in ENCODER_TYPES or is_classifier:
        return "rerank" if is_classifier else "embedding"
    if (folder / "modules.json").exists():
        return "embedding"
    return "chat" if has_chat_template(folder) else "completion"
