"""What mlx-lm's models ask of caches, from their source: the caches of a batch offer it all."""

import ast
import functools
from pathlib import Path

import pytest
from mlx_lm import models
from mlx_lm.models import cache as kinds

from mlxnode.engine.kvcache.layers.factory import can_share_arrays, new_layers
from mlxnode.engine.kvcache.slots import Slots
from mlxnode.errors import ModelError

# The cache of one sequence, for each class that models construct.
MAKE = {
    "KVCache": kinds.KVCache,
    "RotatingKVCache": functools.partial(kinds.RotatingKVCache, max_size=8),
    "ArraysCache": functools.partial(kinds.ArraysCache, size=2),
    "ChunkedKVCache": functools.partial(kinds.ChunkedKVCache, 8),
}
COMBINED = "CacheList"
# Not served: a class of one model's own. AFM makes the other one where it gets no cache.
REFUSED = {"deepseek_v41": "LayerCache"}
UNUSED = {"afm7": "ConcatenateKVCache"}
FOLDER = Path(models.__path__[0])
MODULES = sorted(
    file.stem for file in FOLDER.glob("*.py") if file.stem not in ("cache", "base")
)


@functools.cache
def source_of(module: str) -> ast.Module:
    return ast.parse((FOLDER / f"{module}.py").read_text())


def constructed(module: str) -> set[str]:
    """The cache classes that a module constructs; by default, keys of all tokens."""
    found = {
        node.func.id
        for node in ast.walk(source_of(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    found = {name for name in found if name.endswith("Cache") or name == COMBINED}
    return found - {UNUSED.get(module)} or {"KVCache"}


def asked(module: str) -> set[str]:
    """The attributes of caches that a module names: of ``cache``, ``kv_cache[0]`` and so on."""
    found = set()
    for node in ast.walk(source_of(module)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            while isinstance(owner, ast.Subscript):
                owner = owner.value
            if isinstance(owner, ast.Name) and (owner.id == "c" or "cache" in owner.id):
                found.add(node.attr)
    return found


def test_every_class_of_cache_is_served_or_refused_by_name():
    everywhere = {name: module for module in MODULES for name in constructed(module)}
    assert set(everywhere) == {*MAKE, COMBINED, *REFUSED.values()}
    for module, name in REFUSED.items():
        assert name in constructed(module)
        like = type(name, (), {})()
        with pytest.raises(ModelError, match=rf"its cache \({name}\) is not served"):
            can_share_arrays([like])


@pytest.mark.parametrize("module", [name for name in MODULES if name not in REFUSED])
def test_a_batch_offers_what_a_model_asks_of_its_caches(module):
    likes = [MAKE[name]() for name in constructed(module) - {COMBINED}]
    if not can_share_arrays(likes):
        return  # the model gets the caches of single sequences
    layers, _ = new_layers(likes, Slots(), width=1)
    for like, layer in zip(likes, layers, strict=True):
        missing = {
            name for name in asked(module) if hasattr(like, name) and name not in dir(layer)
        }
        assert not missing, f"{type(like).__name__} of {module}"


def test_the_attributes_are_found_in_the_source():
    assert {"update_and_fetch", "offset", "keys_and_values"} <= asked("gemma3n")
    assert {"lengths", "advance"} <= asked("qwen3_5")
    assert "values" in asked("deepseek_v32")
    assert "start_position" in asked("llama4")
    assert constructed("falcon_h1") == {"CacheList", "ArraysCache", "KVCache"}
    assert constructed("llama") == {"KVCache", "RotatingKVCache"}
