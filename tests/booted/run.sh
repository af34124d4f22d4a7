#!/bin/sh
# What `make test-systemd` does: a Debian to boot, the package that `make deb` makes here and one with an earlier program, lintian, then the
# tests.
set -eu

cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
place=target/booted
# The last commit that wrote the buffer's schema version 5.
earlier=a73c4ac~1

status=0
sh tests/booted/setup.sh || status=$?
[ $status != 3 ] || exit 0
[ $status = 0 ] || exit $status

# The package that is handed out, with the program that a board gets.
rm -rf "$place/now"
OUT=$place/now sh packaging/deb.sh || status=$?
if [ $status = 75 ]; then
    echo "make test-systemd is left out: what builds the package could not be downloaded"
    exit 0
fi
[ $status = 0 ] || exit $status
cp "$place"/now/headwater_*.deb "$place/now.deb"
lintian --fail-on error,warning --info "$place/now.deb"

# With the libraries that the tests have been built with already, as far as it has the same.
earlier_program() {
    program=$place/earlier/headwater
    commit=$(git rev-parse "$earlier^{commit}")
    [ "$(cat "$program.commit" 2>/dev/null)" != "$commit" ] || return 0
    echo "Building the program of $(git log -1 --format='%h, %s' "$commit")"
    rm -rf "$place/earlier"
    mkdir -p "$place/earlier/source"
    git archive "$commit" | tar -x -C "$place/earlier/source"
    # A test of it brings its program along, with the features of the libraries that tests have.
    $cargo test --quiet --no-run --locked --manifest-path "$place/earlier/source/Cargo.toml" --target-dir target --test dependencies
    strip -o "$program" target/debug/headwater
    rm -rf "$place/earlier/source"
    echo "$commit" >"$program.commit"
}

# An older version for apt: the licences are today's.
rm -rf "$place/older"
if git rev-parse --verify --quiet "$earlier^{commit}" >/dev/null; then
    earlier_program
    program=$place/earlier/headwater
else
    # An upgrade is tried all the same, but for the migration of the buffer.
    echo "This clone does not go back to $earlier, so today's program stands for the earlier one"
    program=$place/today
    cp target/deb/parts/headwater "$program"
fi
BINARY=$program VERSION=0.0.1-1 OUT=$place/older sh packaging/deb.sh
cp "$place"/older/headwater_*.deb "$place/older.deb"

$cargo test --locked --test booted
# What was a control group of a container is empty now.
find /sys/fs/cgroup -depth -type d -path '*/headwater-board-*' -exec rmdir {} + 2>/dev/null || true
