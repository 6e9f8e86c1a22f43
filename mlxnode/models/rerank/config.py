"""The settings of a reranker: its head, the function of its score, its maximum length.

The files and their meaning are those of transformers and of sentence-transformers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlxnode.errors import ModelError
from mlxnode.models.plain_files import read_object
from mlxnode.models.sentence.config import ENCODER_TYPES, max_length_of
from mlxnode.models.sentence.json_file import positive

# ``classifier``: an encoder with a classification head, of one label. ``score``: a decoder
# with a linear layer at its last token. ``verdict``: a decoder that answers "yes" or "no".
Head = Literal["classifier", "score", "verdict"]
ACTIVATIONS = ("Identity", "Sigmoid", "Tanh")

# Decoders are told their task by a prompt of their family. There is one such family.
DECODER = "qwen3"
_DECODER_LENGTH = 8192  # tokens, as its authors use it: a score needs no longer document
_CLASSIFICATION = "ForSequenceClassification"


@dataclass(frozen=True)
class RerankerConfig:
    """The steps from a query and a document to a score, as the model's files define them.

    ``activation``, a class of torch.nn, makes a score of the logit. ``max_length`` is in
    tokens, of both texts with the special tokens. Token ids are below ``vocabulary_size``.
    """

    head: Head
    activation: str
    max_length: int
    vocabulary_size: int

    @property
    def is_decoder(self) -> bool:
        return self.head != "classifier"


def read_reranker_config(folder: Path) -> RerankerConfig:
    """The settings of the reranker in ``folder``, which holds at least config.json.

    Raises:
        ModelError: a file is missing or broken, or it is no reranker that is supported.
    """
    file = folder / "config.json"
    model = read_object(file)
    head = _head(model, file)
    max_length = max_length_of(folder, model, {})
    return RerankerConfig(
        head=head,
        activation=_activation(folder, model),
        max_length=max_length if head == "classifier" else min(max_length, _DECODER_LENGTH),
        vocabulary_size=positive(model, "vocab_size", file),
    )


def _head(model: dict[str, Any], file: Path) -> Head:
    kind, named = model.get("model_type"), model.get("architectures") or []
    is_classifier = any(str(name).endswith(_CLASSIFICATION) for name in named)
    if kind not in ENCODER_TYPES and kind != DECODER:
        supported = ", ".join(sorted({*ENCODER_TYPES, DECODER}))
        raise ModelError(f"{file}: a reranker of type {kind!r} is none of: {supported}")
    if is_classifier and (count := _num_labels(model)) != 1:
        raise ModelError(f"{file}: it has {count} labels; a reranker has one, the score")
    if kind == DECODER:
        return "score" if is_classifier else "verdict"
    if not is_classifier:
        raise ModelError(
            f"{file}: architectures names no model {_CLASSIFICATION}: it has no head that "
            'scores pairs; set type = "embedding" to compare by similarity'
        )
    return "classifier"


def _num_labels(model: dict[str, Any]) -> int:
    """transformers writes the names of the labels, unless there are two."""
    labels = model.get("id2label")
    return len(labels) if isinstance(labels, dict) else model.get("num_labels", 2)


def _activation(folder: Path, model: dict[str, Any]) -> str:
    """The class that the files name, as sentence-transformers reads them; else Sigmoid."""
    file = folder / "config_sentence_transformers.json"
    settings = read_object(file) if file.exists() else {}
    named = (
        (model.get("sentence_transformers") or {}).get("activation_fn")
        or model.get("sbert_ce_default_activation_function")
        or settings.get("activation_fn")
        or "Sigmoid"
    )
    activation = str(named).rsplit(".", 1)[-1]
    if activation not in ACTIVATIONS:
        raise ModelError(
            f"{folder}: the activation {named!r} of the score is not supported; expected one "
            f"of {', '.join(ACTIVATIONS)}"
        )
    return activation
