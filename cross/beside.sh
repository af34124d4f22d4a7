#!/bin/sh
# Runs a command, and builds for boards beside it with what it leaves of the machine: tests mostly wait.
#
# Usage: sh cross/beside.sh COMMAND...
#
# The exit code is the command's. What goes wrong with a build is told by whoever needs the binary: to build it again takes a second when it
# is there, and else says why not.
set -eu

cd "$(dirname "$0")/.."
log=target/cross-beside.log

sh cross/setup.sh || exec "$@"

echo "Building for boards beside it; see $log"
# In a group of its own, so that it ends with us, whoever ends us.
setsid nice -n 19 sh cross/build.sh arm64 arm64-musl armhf armv6 "$(dpkg --print-architecture)" >"$log" 2>&1 &
build=$!
trap 'trap "" INT TERM; kill -- "-$build" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$@"
wait "$build" || true
