"""Writes docs/configuration.md, docs/cli.md and docs/api.md, which follow from the code.

Usage: cd tests && python -m documents.write
"""

import tempfile
from pathlib import Path

from documents import api, cli, configuration
from documents.node import running_examples


def main() -> None:
    configuration.DOCUMENT.write_text(configuration.text(), encoding="utf-8")
    cli.DOCUMENT.write_text(cli.text(), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, running_examples(Path(folder)) as examples:
        api.DOCUMENT.write_text(api.text(examples), encoding="utf-8")


if __name__ == "__main__":
    main()
