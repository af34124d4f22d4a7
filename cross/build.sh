#!/bin/sh
# Builds the release binaries for boards, without the demo: target/cross/ARCH/headwater, stripped, and beside them
#
#   target/cross/THIRD-PARTY-LICENSES   the licences of all that is in them      \ cross/third_party.py,
#   target/cross/headwater.cdx.json     what is in them, as a CycloneDX SBOM     / the same for every ARCH
#   target/cross/SHA256SUMS             of everything there
#
# Nothing in them tells where or when they were built.
#
# Usage: sh cross/build.sh [ARCH...]      without ARCH: those for boards, which are the first four
#
#   arm64        64-bit Raspberry Pi OS and Debian, glibc 2.28 or later
#   arm64-musl   any 64-bit Linux on ARM; static
#   armhf        32-bit on ARMv7 (Raspberry Pi 2 and later), glibc 2.28 or later
#   armv6        every 32-bit Raspberry Pi, from the first and the Zero on; static
#   amd64        64-bit PCs, glibc 2.28 or later
#
# A board's binary has 8 MiB at most: it lies on a card, and in little memory.
#
# Exits with 75 when something that it takes could not be downloaded; see cross/setup.sh.
set -eu

cd "$(dirname "$0")/.."
boards="arm64 arm64-musl armhf armv6"
glibc=2.28                     # of Debian 10, and so of every Raspberry Pi OS that still gets updates
largest=$((8 << 20))
out=target/cross
cargo=${CARGO:-cargo}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(${RUSTC:-rustc} --print sysroot)
commit=$(${RUSTC:-rustc} -vV | sed -n 's/^commit-hash: //p')

fail() {
    echo "cross/build.sh: $*" >&2
    exit 1
}

target_of() {
    case $1 in
    arm64) echo aarch64-unknown-linux-gnu ;;
    arm64-musl) echo aarch64-unknown-linux-musl ;;
    armhf) echo armv7-unknown-linux-gnueabihf ;;
    armv6) echo arm-unknown-linux-musleabihf ;;
    amd64) echo x86_64-unknown-linux-gnu ;;
    *) fail "no ARCH is called $1; there are $boards and amd64" ;;
    esac
}

targets_of() {
    for arch; do target_of "$arch"; done
}

# Prints the flags that hide where on this machine the sources are, of which the later ones are the narrower ones, and that ask for no
# tables to unwind by: a panic ends the process.
flags_of_rustc() {
    printf '%s\037' -Cforce-unwind-tables=no
    printf '%s\037' "--remap-path-prefix=$PWD=/headwater" "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit"
    for sources in "$cargo_home"/registry/src/*; do printf '%s\037' "--remap-path-prefix=$sources=/crates"; done
}

flags_of_cc() {
    printf '%s ' -fno-unwind-tables -fno-asynchronous-unwind-tables "-ffile-prefix-map=$PWD=/headwater"
    for sources in "$cargo_home"/registry/src/*; do printf '%s ' "-ffile-prefix-map=$sources=/crates"; done
}

# Rust's own library is built as well: rustup's has tables to unwind by, 1.7 MB of them for arm64, and musl's objects, which zig brings
# too; and built here it is small, and for ARMv6 compiled for nothing but ARMv6. It is the one unstable feature that is used, and only here.
build() {
    arch=$1 target=$(target_of "$1") floor='' flags=''
    case $target in
    *-gnu*) floor=.$glibc ;;
    *-musl*) flags=$(printf '%s\037' -Clink-self-contained=no) ;;
    esac
    (
        PATH=$PWD/target/tools/cross/bin:$PATH
        CARGO_ENCODED_RUSTFLAGS=$(flags_of_rustc)$flags
        CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%?}
        export PATH CARGO_ENCODED_RUSTFLAGS RUSTC_BOOTSTRAP=1 "CFLAGS_$(echo "$target" | tr - _)=$(flags_of_cc)"
        $cargo zigbuild --locked --profile board --no-default-features --features board --bin headwater \
            --target "$target$floor" --target-dir "$out/build" -Zbuild-std=std,panic_abort
    )
    mkdir -p "$out/$arch"
    cp "$out/build/$target/board/headwater" "$out/$arch/headwater"
    judge "$out/$arch/headwater" "$target"
}

judge() {
    binary=$1 size=$(stat -c %s "$1")
    [ "$2" = x86_64-unknown-linux-gnu ] || [ "$size" -le "$largest" ] ||
        fail "$binary has $size bytes, and $largest is the most; cargo bloat says what takes the room"
    for place in "$PWD" "$cargo_home" "$sysroot"; do
        ! grep -qaF "$place" "$binary" || fail "$binary names $place, so it is another one when it is built elsewhere"
    done
    case $2 in
    *-gnu*)
        needs=$(grep -ao 'GLIBC_[0-9.]*' "$binary" | sort -uV | tail -n 1)
        newest=$(printf '%s\n' "GLIBC_$glibc" "$needs" | sort -V | tail -n 1)
        [ "$newest" = "GLIBC_$glibc" ] || fail "$binary needs $needs, and not every board has more than GLIBC_$glibc"
        ;;
    *) ! grep -qa '/lib/ld-' "$binary" || fail "$binary is not static" ;;
    esac
    echo "$binary: $size bytes"
}

[ $# -gt 0 ] || set -- $boards
targets_of "$@" >/dev/null # a wrong name is told before anything is downloaded
sh cross/setup.sh
$cargo fetch --locked --quiet
# shellcheck disable=SC2046,SC2086 # lists
python3 cross/third_party.py "$out" $(targets_of $boards amd64)
for arch; do build "$arch"; done
(cd "$out" && sha256sum -- */headwater THIRD-PARTY-LICENSES headwater.cdx.json >SHA256SUMS)
