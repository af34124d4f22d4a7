#!/bin/sh
# Makes the packages for boards of the programs that `make emulated` ran, in target/packages, and holds each to what apt and a board go by:
# its architecture, what it depends on, the very program that passed, and lintian.
#
# Usage: sh packaging/boards.sh
#
# They are left out, and that is said, where this is no Debian, or what builds for boards can't be downloaded.
set -eu

cd "$(dirname "$0")/.."
out=target/packages

fail() {
    echo "make packages can't go on: $*" >&2
    exit 1
}

holds() {
    [ "$2" = "$3" ] || fail "the $1 of $package is '$2', and has to be '$3'"
}

make_package() {
    arch=$1 board=$2 depends=$3 passed=target/cross/$2/passed
    [ -e "$passed" ] || fail "no program for $board has passed its tests; run: make emulated ARCH=$board"
    OUT=$out sh packaging/deb.sh "$arch"
    package=$(echo "$out"/headwater_*_"$arch".deb)
    program=$(dpkg-deb --fsys-tarfile "$package" | tar -x --to-stdout ./usr/bin/headwater | sha256sum | cut -d ' ' -f 1)
    holds Architecture "$(dpkg-deb --field "$package" Architecture)" "$arch"
    holds Depends "$(dpkg-deb --field "$package" Depends)" "$depends"
    holds program "$program" "$(cut -d ' ' -f 1 "$passed")"
}

if ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "make packages is left out: dpkg-deb is not here to look into what it makes"
    exit 0
fi
status=0
sh cross/setup.sh || status=$?
if [ $status = 75 ]; then
    echo "make packages is left out: what builds for boards could not be downloaded"
    exit 0
fi
[ $status = 0 ] || exit $status

rm -rf "$out"
make_package arm64 arm64 "ca-certificates, libc6 (>= 2.28), systemd (>= 247)"
make_package armhf armv6 "ca-certificates, systemd (>= 247)"
if command -v lintian >/dev/null 2>&1; then
    lintian --fail-on error,warning --info "$out"/*.deb
else
    echo "Nobody has judged the packages in $out: lintian is not here; install Debian's package of that name"
fi
