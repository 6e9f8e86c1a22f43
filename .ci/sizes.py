"""Print the lines of source code by folder; fail where a file is too long.

A source file has at most 350 lines. ``large-files.toml``, beside this script, names the files
that may be longer and says why. An entry that is no longer needed fails as well.

Usage: sizes.py [root of the checkout]
"""

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

LIMIT = 350
SUFFIXES = {".py", ".metal", ".h", ".cpp", ".mjs"}
FOLDERS = ("mlxnode", "kernels", "benchmarks", "tests")
REASONS = Path(".ci/large-files.toml")


def source_files(root: Path) -> Iterator[Path]:
    """The source files below ``FOLDERS``, relative to ``root``. Links are not followed."""
    for top in FOLDERS:
        for folder, subfolders, names in os.walk(root / top):
            subfolders.sort()
            for name in sorted(names):
                if Path(name).suffix in SUFFIXES:
                    yield Path(folder, name).relative_to(root)


def count_lines(root: Path) -> dict[Path, int]:
    return {file: len((root / file).read_text().splitlines()) for file in source_files(root)}


def table(lines: Mapping[Path, int]) -> Iterator[str]:
    """Files, lines and the longest file of each folder; then the sums of the top folders."""
    yield f"{'folder':<36} {'files':>5} {'lines':>6}  longest"
    for folder in dict.fromkeys(file.parent for file in lines):
        own = {file: count for file, count in lines.items() if file.parent == folder}
        longest = max(own, key=own.__getitem__)
        yield (
            f"{folder.as_posix():<36} {len(own):>5} {sum(own.values()):>6}"
            f"  {longest.name} {own[longest]}"
        )
    yield ""
    for top in dict.fromkeys(file.parts[0] for file in lines):
        own_lines = [count for file, count in lines.items() if file.parts[0] == top]
        yield f"{top + ', all':<36} {len(own_lines):>5} {sum(own_lines):>6}"


def problems(lines: Mapping[Path, int], reasons: Mapping[str, str]) -> Iterator[str]:
    for file, count in lines.items():
        if count > LIMIT and file.as_posix() not in reasons:
            yield (
                f"{file.as_posix()} has {count} lines, more than {LIMIT}: split the file, "
                f"or give a reason in {REASONS.as_posix()}"
            )
    for name, reason in reasons.items():
        if lines.get(Path(name), 0) <= LIMIT:
            yield f"{REASONS.as_posix()}: {name} needs no entry: it has at most {LIMIT} lines"
        elif not reason.strip():
            yield f"{REASONS.as_posix()}: {name} has no reason"


def main(root: Path) -> int:
    lines = count_lines(root)
    print(*table(lines), sep="\n")
    found = list(problems(lines, tomllib.loads((root / REASONS).read_text())))
    print(*found, sep="\n", file=sys.stderr, end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:]) if sys.argv[1:] else Path(__file__).parents[1]))
