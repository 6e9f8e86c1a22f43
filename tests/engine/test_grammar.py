"""Random walks: whatever is drawn from the masks, the text is in the grammar."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tiny
from random_schemas import SchemaMaker
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mlxnode.engine.grammar import GrammarCompiler, GrammarState, fill_masks, mask_words
from mlxnode.matcher import GrammarError
from mlxnode.models.gguf import model_folder
from mlxnode.server.grammars import json_grammar

MAX_TOKENS = 500
NUM_SCHEMAS = 200


class Walker:
    """Draws texts from the masks of one model's tokenizer."""

    def __init__(self, folder: Path, vocabulary_size: int, stop_ids: list[int]):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vocabulary_size = vocabulary_size
        self.stop_ids = stop_ids
        self.compiler = GrammarCompiler(folder, vocabulary_size, stop_ids)
        vocabulary = self.tokenizer.get_vocab()
        self._closing = np.array(
            [i for token, i in vocabulary.items() if set(token) <= set('"}]@')]
        )

    def allowed(self, state: GrammarState) -> np.ndarray:
        """Which tokens may follow, [V] bool; the bits past the vocabulary must be zero."""
        row = np.full(mask_words(self.vocabulary_size), 0xFFFFFFFF, np.uint32)
        state.fill(row)
        bits = np.unpackbits(row.view(np.uint8), bitorder="little").astype(bool)
        assert not bits[self.vocabulary_size :].any()
        return bits[: self.vocabulary_size]

    def walk(self, grammar: str, seed: int) -> str | None:
        """A random text of ``grammar``, each allowed token as likely as the others.

        A stop token is taken as soon as it may be, and None is given for a text that has
        not ended after ``MAX_TOKENS``.
        """
        random = np.random.default_rng(seed)
        state = self.compiler.start(grammar)
        tokens: list[int] = []
        for _ in range(MAX_TOKENS):
            allowed = self.allowed(state)
            if allowed[self.stop_ids].any():
                return self.tokenizer.decode(tokens, skip_special_tokens=False)
            assert not state.is_finished
            # JSON could go on for long: mostly end a string, list or object where one may.
            ids = self._closing[allowed[self._closing]]
            if not ids.size or random.random() < 0.3:
                ids = np.flatnonzero(allowed)
            tokens.append(int(random.choice(ids)))
            state.accept(tokens[-1])
            assert state.error is None
        return None


@pytest.fixture(scope="module")
def tiny_walker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walker]:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny.make_tokenizer(folder)
    walker = Walker(folder, 259, [tiny.EOS_ID])
    yield walker
    walker.compiler.close()


@pytest.fixture(scope="module")
def demo_walker(demo_chat: Path) -> Iterator[Walker]:
    walker = Walker(model_folder(demo_chat), 49_152, [0, 2])
    yield walker
    walker.compiler.close()


@pytest.fixture(params=["tiny", "demo"])
def walker(request: pytest.FixtureRequest) -> Walker:
    return request.getfixturevalue(f"{request.param}_walker")


def lark(text: str) -> str:
    return json.dumps({"grammars": [{"lark_grammar": text}]})


def test_walk_json_schema_always_validates(walker: Walker):
    num_ended = 0
    for seed in range(NUM_SCHEMAS):
        schema = SchemaMaker(seed).make()
        jsonschema.Draft202012Validator.check_schema(schema)
        text = walker.walk(json_grammar(schema, "schema"), seed)
        if text is None:
            continue
        num_ended += 1
        jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        ).validate(json.loads(text))
    assert num_ended >= 0.95 * NUM_SCHEMAS
