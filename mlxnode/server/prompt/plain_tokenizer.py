"""Tokenizers for which the texts of another one's control tokens are ordinary text."""

import functools
import json
import random
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer

# Of the Yi script: no normalizer changes them.
_LETTERS = tuple(map(chr, range(0xA000, 0xA48D)))
_LENGTH = 16  # letters of a name: no request can guess it


class PlainTokenizer(NamedTuple):
    """``names`` stand for the texts of the control tokens, by id.

    ``ids`` are those of the other tokenizer where they differ.
    """

    tokenizer: Tokenizer
    names: dict[int, str]
    ids: dict[int, int]


class PlainTokenizers:
    """Makes them of ``tokenizer``, each when it is first needed, for any thread."""

    def __init__(self, tokenizer: Tokenizer, controls: Mapping[int, str]):
        """``controls``: the texts of the control tokens, by id."""
        self._tokenizer = tokenizer
        self._controls = controls
        choose = random.SystemRandom().choices
        self._names = {id: "".join(choose(_LETTERS, k=_LENGTH)) for id in controls}
        self._lock = threading.Lock()

    def shared(self) -> PlainTokenizer:
        """One that shares the model, which may form a control token of its pieces."""
        with self._lock:
            return self._shared

    def renamed(self) -> PlainTokenizer:
        """One whose model has no control token; it takes time and memory as at the load."""
        with self._lock:
            return self._renamed

    @functools.cached_property
    def _shared(self) -> PlainTokenizer:
        own = self._tokenizer
        copy: Any = Tokenizer(own.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor"):
            if (value := getattr(own, part)) is not None:
                setattr(copy, part, value)
        added = sorted(own.get_added_tokens_decoder().items())
        texts = {id: self._names.get(id, token.content) for id, token in added}
        copy.add_tokens([_like(token, texts[id]) for id, token in added])
        ids = {copy.token_to_id(text): id for id, text in texts.items()}
        return PlainTokenizer(copy, self._names, ids)

    @functools.cached_property
    def _renamed(self) -> PlainTokenizer:
        names = {text: self._names[id] for id, text in self._controls.items()}
        state: dict[str, Any] = json.loads(self._tokenizer.to_str())
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename(state["model"], names)
        return PlainTokenizer(Tokenizer.from_str(json.dumps(state)), self._names, {})


def _like(token: AddedToken, content: str) -> AddedToken:
    return AddedToken(
        content,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _rename(model: dict[str, Any], names: Mapping[str, str]) -> None:
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # of pieces and their scores (unigram)
        model["vocab"] = [[names.get(text, text), score] for text, score in vocabulary]
    else:
        model["vocab"] = {names.get(text, text): id for text, id in vocabulary.items()}
    if merges := model.get("merges"):
        model["merges"] = [merge for merge in merges if not _has_any(merge, names)]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]


def _has_any(merge: Any, names: Mapping[str, str]) -> bool:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first in names or second in names or first + second in names
