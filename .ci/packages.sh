#!/bin/sh
# Installs the Debian packages of what is missing, where apt-get may: as root, or by sudo without a
# password. Never fails: mlxnode works without them, but slower, or with fewer tests.
# Usage: packages.sh THING=PACKAGE...   THING is a command, or a library as libx.so.1
set -u
PATH=$PATH:/usr/sbin:/sbin # ldconfig is there

missing=
for pair in "$@"; do
	thing=${pair%%=*}
	case $thing in
	*.so*) ldconfig -p 2>/dev/null | grep -q "$thing" ;;
	*) command -v "$thing" >/dev/null ;;
	esac || missing="$missing ${pair#*=}"
done
[ -n "$missing" ] || exit 0

sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
$sudo apt-get update -qq >/dev/null 2>&1
failed=
for package in $missing; do # one by one: apt-get installs none if it lacks one
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package" >/dev/null 2>&1 ||
		failed="$failed $package"
done
if [ -n "$failed" ]; then
	echo "could not install$failed: OpenBLAS makes the CPU backend fast, the rest is for tests"
fi
exit 0
