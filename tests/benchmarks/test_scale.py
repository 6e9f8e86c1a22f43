"""The command line of benchmarks/scale.py, its files, and what docs/scale.md says of it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import scale
from scaling import node, planning, prefixes, requests, traces
from scaling.costs import Beside, Costs, Line

ROOT = Path(__file__).parents[2]
CONSTANTS = """
from mlxnode.engine.decode import prefill, prefill_order, scheduler
from mlxnode.engine.kvcache import prefix
print(prefill_order.MAX_OVERTAKEN, prefill.MAX_TOGETHER, prefill.MAX_PADDING)
print(scheduler.ANSWER_STEP, prefix.MAX_ENTRIES, prefix.MIN_SHARED)
"""


def commands() -> list[list[str]]:
    """The arguments of each call of scale.py in the document."""
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    calls = re.findall(r"(?m)^python benchmarks/scale\.py ([^#\n]+)", text)
    return [shlex.split(call) for call in calls]


@pytest.mark.slow
def test_constants_are_those_of_the_engine():
    found = subprocess.run(
        [sys.executable, "-c", CONSTANTS], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [float(value) for value in found] == [
        node.MAX_OVERTAKEN,
        node.MAX_TOGETHER,
        node.MAX_PADDING,
        requests.ANSWER_STEP,
        prefixes.MAX_ENTRIES,
        prefixes.MIN_SHARED,
    ]


def test_commands_of_the_document_are_ones_of_the_command_line():
    names = {scale.parser().parse_args(arguments).run.__name__ for arguments in commands()}
    assert names == {"run_fit", "run_plan", "run_limit", "run_simulate"}


def test_a_row_of_the_plan_is_that_of_the_document():
    (case,) = (case for case in planning.CASES if case.name == "household")
    row = " | ".join(planning.plan(case).row())
    assert f"| {row} |" in (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_a_written_trace_plays_the_same(tmp_path, capsys):
    trace, first = tmp_path / "trace.jsonl", ["simulate", "--mac", "m4-max", "--nodes", "2"]
    made = [*first, "--conversations", "30", "--write-trace", str(trace)]
    assert scale.main(made) == 0
    played = capsys.readouterr().out
    assert scale.main([*first, "--trace", str(trace)]) == 0
    assert capsys.readouterr().out == played
    assert "TTFT p95" in played and "kWh" in played


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2"),
        ('{"at": 1}', "turns"),
        ('{"at": 1, "id": "a", "system": "", "system_tokens": 0, "turns": []}', "no turns"),
        (
            '{"at": -1, "id": "a", "system": "", "system_tokens": 0, '
            '"turns": [{"user_tokens": 1, "answer_tokens": 1}]}',
            "negative",
        ),
    ],
)
def test_a_wrong_trace_is_refused_with_its_line(tmp_path, capsys, line, reason):
    trace = tmp_path / "trace.jsonl"
    traces.write(traces.Workload().conversations(1.0, 1, seed=0), trace)
    with trace.open("a") as file:
        file.write(line + "\n")
    assert scale.main(["simulate", "--mac", "m4-max", "--trace", str(trace)]) == 2
    error = capsys.readouterr().err
    assert "line 2" in error and reason in error


def test_costs_are_read_as_they_were_written(tmp_path):
    costs = Costs(Line(0.1, 0.2), Line(0.3), {1: 0.1, 8: 0.2}, 1e-9, beside=Beside(1, 2, 3))
    costs.save(tmp_path / "costs.json")
    assert Costs.load(tmp_path / "costs.json") == costs


def test_wrong_costs_are_refused(tmp_path, capsys):
    (tmp_path / "costs.json").write_text('{"http": 1}')
    arguments = ["simulate", "--costs", str(tmp_path / "costs.json")]
    assert scale.main(arguments) == 2
    assert "costs.json has no costs of a node" in capsys.readouterr().err


def test_the_limit_is_where_it_stops_to_keep_up():
    costs = Costs(Line(0.0), Line(0.05, 0.001), {1: 0.02, 32: 0.1})
    setup = planning.Setup(costs, traces.Workload(), seconds=300)
    found = planning.find_limit(setup, 1, bound=2.0)
    assert setup.keeps_up(1, found, 2.0) and not setup.keeps_up(1, 1.5 * found, 2.0)


def test_bursts_come_as_often_as_single_conversations():
    for arrivals in ("poisson", "bursty"):
        made = list(traces.Workload(arrivals=arrivals).conversations(2.0, 4000, seed=1))
        assert made[-1].at == pytest.approx(2000, rel=0.1)
    assert len({conversation.at for conversation in made}) < 1000
