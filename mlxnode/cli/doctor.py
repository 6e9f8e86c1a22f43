"""``mlxnode doctor``: does everything work on this machine?"""

from pathlib import Path

import click

from mlxnode.cli.options import command, config_option, json_option
from mlxnode.cli.output import emit, say

EXAMPLES = """\
mlxnode doctor
mlxnode doctor --report               measure as well, and write mlxnode-report.md
mlxnode doctor --hosts                the machines of an engine on several of them
mlxnode doctor --json | jq '.[].findings[] | select(.status == "fail")'
"""


@command(EXAMPLES)
@config_option
@click.option(
    "--report",
    is_flag=False,
    flag_value="mlxnode-report.md",
    type=click.Path(path_type=Path),
    metavar="[FILE]",
    help="Measure as well, for minutes, and write it all to FILE, by default "
    "mlxnode-report.md.",
)
@click.option(
    "--hosts",
    is_flag=True,
    help="Check the machines of [engine.distributed] instead: versions, files, links.",
)
@json_option
def doctor(config: Path | None, report: Path | None, hosts: bool, as_json: bool) -> int:
    """Check this machine, its limits and the configuration."""
    from mlxnode.doctor import examine
    from mlxnode.doctor.render import as_text, nameless

    if report is not None and hosts:
        raise click.UsageError("--report and --hosts do not go together")
    if report is not None:
        sections = examine.report(config, say)
        done = examine.write_report(report, sections, say)
    else:
        done = []
        for section in examine.hosts(config) if hosts else examine.examine(config):
            if not as_json:
                click.echo(as_text([section]))
            done.append(section)
    if as_json:
        emit([nameless(section) for section in done], as_json, "")
    return examine.worst_code(done)
