#!/bin/sh
# Says in one line why mlxnode cannot run here, and fails. Says nothing where it can.
# Usage: machine.sh [PYTHON]
set -eu

fail() {
	echo "mlxnode needs $1" >&2
	exit 1
}

python=${1:-}
how="python3 and python3-venv of your distribution"
if [ "$(uname -s)" = Darwin ]; then
	how="brew install python@3.13"
	if [ "$(uname -m)" != arm64 ]; then
		# Rosetta shows an Intel processor to all that runs under it.
		if [ "$(sysctl -n sysctl.proc_translated 2>/dev/null || true)" = 1 ]; then
			fail "a native shell, and this one runs under Rosetta: arch -arm64 /bin/zsh"
		fi
		fail "a Mac with Apple silicon, and this one has an Intel processor"
	fi
	version=$(sw_vers -productVersion)
	if [ "${version%%.*}" -lt 14 ]; then
		fail "macOS 14 or newer, as MLX does, and this is macOS $version"
	fi
fi

if [ -z "$python" ]; then
	fail "Python 3.11 or newer, as mlx-lm does: $how"
fi
if ! facts=$("$python" -c 'import platform, sys
print(platform.machine(), sys.version_info >= (3, 11), "%d.%d" % sys.version_info[:2])' 2>/dev/null); then
	fail "a Python that runs, and $python does not: $how"
fi
case $facts in
*False*) fail "Python 3.11 or newer, as mlx-lm does, and $python is ${facts##* }: $how" ;;
esac
case $(uname -s)/$facts in
Darwin/arm64*) ;;
Darwin/*) fail "a native Python, and $python is an Intel one under Rosetta: $how" ;;
esac
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
	fail "a Python that can create environments, and $python cannot: $how"
fi
