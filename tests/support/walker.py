"""Random walks over the masks of grammars, for one tokenizer."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from mlxnode.engine.decode.grammar import GrammarCompiler, GrammarState, fill_masks, mask_words
from mlxnode.server.constraints.markers import MarkerTokens
from mlxnode.server.prompt.tokenizers import Detokenizer


class Walker:
    """Draws texts from the masks of one model's tokenizer."""

    def __init__(self, folder: Path, vocabulary_size: int, stop_ids: list[int]):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vocabulary_size = vocabulary_size
        self.stop_ids = stop_ids
        self.compiler = GrammarCompiler(folder, vocabulary_size, stop_ids)
        added = self.tokenizer.get_added_tokens_decoder()
        self.markers = MarkerTokens(
            {token.content: id for id, token in added.items()},
            {id for id, token in added.items() if token.special},
        )
        vocabulary = self.tokenizer.get_vocab()
        self._closing = np.array(
            [i for token, i in vocabulary.items() if set(token) <= set('"}]@')]
        )

    def allowed(self, state: GrammarState) -> np.ndarray:
        """Which tokens may follow, [V] bool; the bits past the vocabulary must be zero."""
        row = np.full(mask_words(self.vocabulary_size), 0xFFFFFFFF, np.uint32)
        fill_masks([state], row[None])
        bits = np.unpackbits(row.view(np.uint8), bitorder="little").astype(bool)
        assert not bits[self.vocabulary_size :].any()
        return bits[: self.vocabulary_size]

    def walk(
        self,
        grammar: str,
        seed: int,
        *,
        max_tokens: int = 500,
        endings: Sequence[str] = (),
        num_passed: int = 0,
    ) -> list[int] | None:
        """Random tokens of ``grammar``, each allowed one as likely as the others.

        A stop token is taken as soon as it may be, ``num_passed`` random ones left out, and
        None is given for a text that has not ended after ``max_tokens``. ``endings`` are texts
        that end a part of the text: where one may follow, it often does.
        """
        random = np.random.default_rng(seed)
        state = self.compiler.start(grammar)
        tokens: list[int] = []
        ways = [self.tokenizer.encode(text, add_special_tokens=False).ids for text in endings]
        while len(tokens) < max_tokens:
            allowed = self.allowed(state)
            if allowed[self.stop_ids].any():
                if num_passed <= 0 or state.is_finished:
                    return tokens
                num_passed -= 1
                allowed[self.stop_ids] = False
            assert not state.is_finished
            following = [
                way for way in ways if state.matcher.validate_tokens(way) == len(way) > 0
            ]
            if following and random.random() < 0.3:
                chosen = following[int(random.integers(len(following)))]
            else:
                chosen = [self._one_of(allowed, random)]
            for token in chosen:
                state.accept(token)
                assert state.error is None
            tokens += chosen
        return None

    def _one_of(self, allowed: np.ndarray, random: np.random.Generator) -> int:
        # JSON could go on for long: mostly end a string, list or object where one may.
        ids = self._closing[allowed[self._closing]]
        if not ids.size or random.random() < 0.3:
            ids = np.flatnonzero(allowed)
        return int(random.choice(ids))

    def text(self, tokens: list[int]) -> str:
        """The text of ``tokens`` as a client gets it: without special tokens."""
        detokenizer = Detokenizer(self.tokenizer, [])
        return "".join(map(detokenizer.feed, tokens))

    def whole_text(self, tokens: list[int]) -> str:
        """The text of ``tokens`` with its special tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=False)
