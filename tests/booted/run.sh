#!/bin/sh
# What `make test-systemd` does: a Debian to boot, the package as it is now and one with an earlier program, lintian, then the tests.
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

# With the libraries that the tests have been built with already, and put aside before that folder gets today's program again.
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

# The program that the other tests are of, and words in place of the licences, which take what builds for boards.
package() {
    BINARY=$1 VERSION=$2 OUT=$place/$3 ABOUT=$place/about sh packaging/deb.sh
    cp "$place/$3"/headwater_*.deb "$place/$3.deb"
}
here=$place/now/headwater
rm -rf "$place/now" "$place/older"
mkdir -p "$place/now" "$place/about"
for file in THIRD-PARTY-LICENSES headwater.cdx.json; do echo "This package is for tests." >"$place/about/$file"; done
$cargo test --quiet --no-run --locked --test booted
strip -o "$here" target/debug/headwater
if git rev-parse --verify --quiet "$earlier^{commit}" >/dev/null; then
    earlier_program
    program=$place/earlier/headwater
else
    # An upgrade is tried all the same, but for the migration of the buffer.
    echo "This clone does not go back to $earlier, so today's program stands for the earlier one"
    program=$here
fi
package "$program" 0.0.1-1 older
package "$here" "" now
lintian --fail-on error,warning --info "$place/now.deb"

$cargo test --locked --test booted
# What was a control group of a container is empty now.
find /sys/fs/cgroup -depth -type d -path '*/headwater-board-*' -exec rmdir {} + 2>/dev/null || true
