"""The fit verdict against MLX's own peak memory: ``python -m benchmarks.fit [NAME ...]``.

Each configuration is estimated from its files, then loaded and run: a full batch of prompts of
almost the whole context, decoded to the end. Both happen in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.fit_cases import CASES, Case, write_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="configurations; default: all")
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(_measure(Case(**json.loads(options.case.read_text())))))
        return 0
    print(f"{'configuration':28}{'weights':>9}{'KV':>9}{'estimate':>10}{'peak':>9}{'error':>8}")
    worst = 0.0
    for name in options.names or CASES:
        found = run_case(CASES[name])
        error = found["estimate"] / found["peak"] - 1
        worst = max(worst, abs(error))
        sizes = (f"{found[key] / 1e6:.1f}" for key in ("weights", "kv", "estimate", "peak"))
        weights, kv, estimate, peak = sizes
        print(f"{name:28}{weights:>9}{kv:>9}{estimate:>10}{peak:>9}{error:>+8.1%}", flush=True)
    print(f"largest error {worst:.1%}; sizes in MB")
    return 0


def run_case(case: Case) -> dict[str, float]:
    """The estimate and the peak of a configuration, in bytes, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.json"
        file.write_text(json.dumps(case._asdict()))
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.fit", "--case", str(file)],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        )
    return json.loads(result.stdout.splitlines()[-1])


def _measure(case: Case) -> dict[str, Any]:
    from mlxnode.engine import cpu

    cpu.prepare_process()
    import mlx.core as mx

    from mlxnode.config.tables import EngineConfig
    from mlxnode.engine.fit.served import needs_of_served

    config = EngineConfig(
        max_batch_size=case.rows,
        kv_cache_bits=case.bits,
        prefix_cache_gb=0.0,
        num_speculative_tokens=0,
        prefill_stall_ms=100_000,  # so that chunks are as long as they can get
        kernels="ops",
    )
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(case, Path(folder))
        mx.clear_cache()
        mx.reset_peak_memory()
        needs = needs_of_served(model, config)
        while_estimating = mx.get_peak_memory()
        rows = 1 if model.type == "embedding" else case.rows
        estimate = needs.peak(rows, model.context_length)
        mx.clear_cache()
        mx.reset_peak_memory()
        if model.type == "embedding":
            _embed(model, config)
        else:
            _generate(model, config)
    return {
        "weights": needs.weights,
        "kv": rows * needs.kv.of(model.context_length),
        "estimate": estimate,
        "peak": mx.get_peak_memory(),
        "while_estimating": while_estimating,
    }


def _generate(model: Any, config: Any) -> None:
    from mlxnode.engine.decode.grammar import GrammarCompiler
    from mlxnode.engine.decode.parts import TextParts
    from mlxnode.engine.decode.runner import TextRunner
    from mlxnode.engine.kvcache.budget import MemoryBudget
    from mlxnode.engine.loader import load_generation_model
    from mlxnode.engine.work import RequestKey
    from mlxnode.messages.data import Generate, Sampling

    def no_grammar(vocabulary_size: int, stop_ids: frozenset[int]) -> GrammarCompiler:
        raise NotImplementedError

    loaded = load_generation_model(model)
    runner = TextRunner(TextParts(loaded, config, MemoryBudget(10**12), no_grammar))
    num_tokens = 8
    for uid in range(config.max_batch_size):
        prompt = [(uid * 7 + i * i) % 250 for i in range(model.context_length - num_tokens)]
        message = Generate(
            uid=uid,
            model=model.id,
            prompt=prompt,
            max_tokens=num_tokens + config.max_batch_size,  # the first row waits for the last
            stop_ids=[],
            sampling=Sampling(temperature=0.0),
        )
        refusal = runner.add(RequestKey(1, uid), message)
        if refusal is not None:
            raise RuntimeError(refusal.message)
    while runner.has_work:
        for _ in runner.step():
            pass


def _embed(model: Any, config: Any) -> None:
    from mlxnode.engine.embedding.embedder import Embedder

    embedder = Embedder.load(model)
    for length in (128, model.context_length):
        count = max(config.embedding_batch_tokens // length, 1)
        embedder.embed([[5] * length] * count, [None] * count)


if __name__ == "__main__":
    sys.exit(main())
