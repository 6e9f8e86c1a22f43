#!/bin/sh
# Install the clients, with the versions that are pinned beside this file, into a folder.
# Usage: install.sh FOLDER PYTHON
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
cp "$here/package.json" "$here/package-lock.json" "$1"
# Not `npm ci`: the lock file has the optional packages of one platform only.
npm install --prefix "$1" --no-save --no-audit --no-fund --loglevel=error

environment() {
	"$2" -m venv --clear "$1/$3"
	"$1/$3/bin/python" -m pip install --quiet --requirement "$here/$3.txt"
}

environment "$1" "$2" agents
environment "$1" "$2" instructor
# aider's own dependencies have no wheels for newer Pythons.
for python in "$2" python3.12 python3.11 python3.10; do
	if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 13))' 2>/dev/null; then
		environment "$1" "$python" aider
		break
	fi
done
