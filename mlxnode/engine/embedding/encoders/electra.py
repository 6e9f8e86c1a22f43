"""ELECTRA (Clark et al., 2020), the discriminator: BERT with embeddings of their own size."""

from dataclasses import dataclass, replace
from typing import ClassVar

import mlx.core as mx
import mlx.nn as nn

from mlxnode.engine.embedding.encoders.bert import Bert, BertConfig, BertEmbeddings
from mlxnode.engine.embedding.encoders.checkpoint import mask_padding


@dataclass
class ElectraConfig(BertConfig):
    embedding_size: int = 128


class Electra(Bert):
    """Shapes: as ``Bert``."""

    Config = ElectraConfig
    prefixes: ClassVar[tuple[str, ...]] = ("electra.",)
    ignored: ClassVar[tuple[str, ...]] = (*Bert.ignored, "discriminator_predictions.")

    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size)

    def make_embeddings(self, config: BertConfig) -> BertEmbeddings:
        assert isinstance(config, ElectraConfig)
        return BertEmbeddings(replace(config, hidden_size=config.embedding_size))

    def __call__(
        self, ids: mx.array, lengths: mx.array, types: mx.array | None = None
    ) -> mx.array:
        _, L = ids.shape
        x = self.embeddings(ids, types)
        if "embeddings_project" in self:
            x = self.embeddings_project(x)
        return self.encoder(x, mask_padding(lengths, L))
