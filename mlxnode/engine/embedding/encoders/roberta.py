"""RoBERTa (Liu et al., 2019), XLM-RoBERTa: BERT with positions that start after padding_id."""

from dataclasses import dataclass
from typing import ClassVar

import mlx.core as mx

from mlxnode.engine.embedding.encoders.bert import Bert, BertConfig, BertEmbeddings


@dataclass
class RobertaConfig(BertConfig):
    type_vocab_size: int = 1
    layer_norm_eps: float = 1e-5
    pad_token_id: int = 1


class RobertaEmbeddings(BertEmbeddings):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self._padding_id = config.pad_token_id

    def positions(self, ids: mx.array) -> mx.array:
        """Positions start at padding_id + 1; a padding id has the position padding_id."""
        real = ids != self._padding_id
        return mx.cumsum(real.astype(mx.int32), axis=1) * real + self._padding_id


class Roberta(Bert):
    """Shapes: as ``Bert``."""

    Config = RobertaConfig
    prefixes: ClassVar[tuple[str, ...]] = ("roberta.",)

    def make_embeddings(self, config: BertConfig) -> RobertaEmbeddings:
        return RobertaEmbeddings(config)
