#!/bin/sh
# Installs what `make cross` needs, where it is missing: zig as C compiler and linker for every board, from PyPI and pinned by hash, and
# the sources of Rust's standard library. Nothing outside target/tools changes but the Rust toolchain.
#
# Usage: sh cross/setup.sh
#
# Exits with 75 when something could not be downloaded, so that whoever may go on without it can tell.
set -eu

cd "$(dirname "$0")/.."
tools=target/tools/cross
stamp=$tools/requirements.txt
log=$tools.log

fail() {
    echo "make cross can't go on: $*" >&2
    exit 1
}

not_here() {
    echo "make cross can't download $*; see $log" >&2
    exit 75
}

zig_comes_from_pypi() {
    if cmp -s cross/requirements.txt "$stamp"; then return; fi
    echo "Installing from PyPI: ziglang, cargo-zigbuild"
    rm -rf "$tools"
    python3 -m venv "$tools" 2>"$log" || fail "python3 -m venv failed, see $log; install Debian's python3-venv"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r cross/requirements.txt 2>"$log" || {
        # What arrived and is not what was pinned is no matter of the network.
        ! grep -q "DO NOT MATCH THE HASHES" "$log" || fail "PyPI has other files than cross/requirements.txt names; see $log"
        not_here "cross/requirements.txt from PyPI"
    }
    cp cross/requirements.txt "$stamp"
}

# The sources of Rust's own library, which is built for each board; see cross/build.sh.
rust_comes_from_rustup() {
    [ ! -e "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/library/std" ] || return 0
    command -v rustup >/dev/null 2>&1 || fail "rustup is missing; install Rust by https://rustup.rs"
    rustup --quiet component add rust-src >"$log" 2>&1 || not_here rust-src
}

mkdir -p target/tools
zig_comes_from_pypi
rust_comes_from_rustup
