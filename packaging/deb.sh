#!/bin/sh
# Makes the Debian package for one architecture: target/deb/headwater_VERSION_ARCH.deb, and beside it SHA256SUMS of all that are there.
# The version is that of Cargo.toml. The same commit gives the same bytes.
#
# Usage: sh packaging/deb.sh [ARCH]
#
#   amd64   x86-64
#   arm64   64-bit Raspberry Pi OS and Debian
#   armhf   32-bit, on every Raspberry Pi from the first and the Zero on: one static binary for ARMv6
#
# MAINTAINER, if it is set, is the NAME <ADDRESS> in the package. Tests set BINARY, VERSION and OUT: another program, the version, and where the
# package goes.
#
# Exits with 75 when what builds the program could not be downloaded; see cross/setup.sh.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
arch=${1:-$(dpkg --print-architecture)}
out=${OUT:-target/deb}
# What goes into a package and is not in the repository; the paths stand in Cargo.toml.
parts=target/deb/parts
maintainer=${MAINTAINER:-headwater authors <headwater@localhost>}

fail() {
    echo "make deb can't go on: $*" >&2
    exit 1
}

case $arch in
amd64) target=x86_64-unknown-linux-gnu board=amd64 variant= ;;
arm64) target=aarch64-unknown-linux-gnu board=arm64 variant= ;;
armhf) target=arm-unknown-linux-musleabihf board=armv6 variant=--variant=static ;;
*) fail "there is no package for $arch; there are amd64, arm64 and armhf" ;;
esac
# For cargo-deb alone: it would have cargo build everything again that has a C compiler in it.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} || fail "the time of the commit is wanted; set SOURCE_DATE_EPOCH where there is no git"
unset SOURCE_DATE_EPOCH

# The tool: without a compressor of its own, since every Debian has xz.
tool=target/tools/cargo-deb
version=3.8.0
if [ "$(cat "$tool/version" 2>/dev/null)" != "$version" ]; then
    echo "Installing from crates.io: cargo-deb $version"
    $cargo install --quiet --locked --debug --no-default-features --root "$tool" --version "$version" cargo-deb ||
        fail "cargo could not install cargo-deb"
    echo "$version" >"$tool/version"
fi

rm -rf "$parts"
mkdir -p "$parts" "$out"
if [ -n "${BINARY:-}" ]; then
    cp "$BINARY" "$parts/headwater"
else
    CARGO=$cargo sh cross/build.sh "$board"
    cp "target/cross/$board/headwater" "$parts/headwater"
fi
cp target/cross/THIRD-PARTY-LICENSES target/cross/headwater.cdx.json "$parts/"
$cargo run --quiet --locked --example manual -- "$parts/manual"
VERSION=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)-1}
cat >"$parts/changelog" <<CHANGELOG
headwater ($VERSION) unstable; urgency=medium

  * What is new is in changelog.gz, beside this file.

 -- $maintainer  $(date --utc --date="@$epoch" --rfc-email)
CHANGELOG

# shellcheck disable=SC2086 # none, or one
SOURCE_DATE_EPOCH=$epoch "$tool/bin/cargo-deb" --quiet --no-build --no-strip --locked --target "$target" \
    --deb-version "$VERSION" --maintainer "$maintainer" $variant ${BINARY:+--fast} --output "$out/"
cd "$out"
sha256sum -- *.deb >SHA256SUMS
ls -l "headwater_${VERSION}_$arch.deb"
