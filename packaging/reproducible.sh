#!/bin/sh
# Makes the Debian package of the last commit twice, in two folders that have nothing in common, and compares every byte: the package, the
# program in it, licences, SBOM and manual. For the second one all is different that a build could tell of: the path, its length, where
# Cargo, rustc, zig and their caches are, the language, the time zone, the umask, the number of jobs and, of course, the time.
#
# Usage: sh packaging/reproducible.sh [ARCH...]      as packaging/deb.sh names them; without ARCH: arm64
#
# Both are built from nothing, which takes two cores ten minutes for each ARCH, and 5 GB in REPRODUCIBLE_IN (target/reproducible). They are
# removed when all is the same, and stay there to be looked at, with diffoscope for instance, when it is not.
set -eu

cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- arm64
place=${REPRODUCIBLE_IN:-$PWD/target/reproducible}
one=$place/one two=$place/the/other/one
cargo_home=${CARGO_HOME:-$HOME/.cargo}

[ -z "$(git status --porcelain)" ] || echo "What is not committed is left out."
rm -rf "$place"
mkdir -p "$place/homes"
for folder in "$one" "$two"; do git clone --quiet . "$folder"; done

# The same downloads and the same toolchain, by other names.
ln -s "$cargo_home" "$place/homes/cargo"
cp -al "$(rustc --print sysroot)" "$place/homes/toolchain" 2>/dev/null || cp -a "$(rustc --print sysroot)" "$place/homes/toolchain"

build() {
    for arch; do sh packaging/deb.sh "$arch" && mv target/deb/parts "target/deb/parts-$arch" || return; done
}

echo "Building $(git log -1 --format='%h, %s') in $one"
(cd "$one" && umask 022 && unset CARGO && build "$@")
echo "Building it once more in $two"
(
    cd "$two"
    export CARGO_HOME="$place/homes/cargo" RUSTUP_TOOLCHAIN="$place/homes/toolchain" CARGO_BUILD_JOBS=3
    export ZIG_GLOBAL_CACHE_DIR="$place/homes/zig" ZIG_LOCAL_CACHE_DIR="$place/homes/zig" CARGO_ZIGBUILD_CACHE_DIR="$place/homes/zigbuild"
    export LC_ALL=C TZ=Pacific/Kiritimati
    umask 077
    unset CARGO
    build "$@"
)

status=0
for arch; do
    for file in $(cd "$one/target/deb" && find "parts-$arch" ./*_"$arch".deb -type f | sort); do
        if cmp "$one/target/deb/$file" "$two/target/deb/$file"; then
            (cd "$one/target/deb" && sha256sum "$file")
        else
            status=1
        fi
    done
done
if [ $status != 0 ]; then
    echo "packaging/reproducible.sh: not the same bytes; both are still in $place" >&2
    exit 1
fi
rm -rf "$place"
echo "The same bytes from both: $*"
