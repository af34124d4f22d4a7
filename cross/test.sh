#!/bin/sh
# Builds for boards, and holds each binary to the specification under qemu-user: the field, the cloud and the tests are this machine's, the
# agent between them is the board's.
#
# Usage: sh cross/test.sh [ARCH...]      as cross/build.sh names them; without ARCH: those for boards
#
# Two of them are in the packages for boards: arm64, and armv6 in the one for armhf. One commit always gives the same bytes
# (packaging/reproducible.sh), so what is tested here is what is in a package of that commit, whoever makes it. target/cross/ARCH/passed
# has the checksum of what passed, for packaging/boards.sh.
#
# One thing is beyond the emulator: it does not know the request that sets a baud rate of any number, so a port that is there can't be
# opened. What the specification says about serial lines is asked of a copy that makes an older request; see cross/serial_ports.py.
#
# A board whose compiler or library can't be downloaded is left out, and that is said; everything else that goes wrong is a failure.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
[ $# -gt 0 ] || set -- arm64 arm64-musl armhf armv6

# Prints the command that runs this board's programs; this machine's own need none. The wall clock of a test is set by libfaketime in
# front of the emulator, which must not hand it on.
emulator_of() {
    case $1 in
    arm64) echo qemu-aarch64 -L /usr/aarch64-linux-gnu -U LD_PRELOAD ;;
    arm64-musl) echo qemu-aarch64 -U LD_PRELOAD ;;
    armhf) echo qemu-arm -cpu cortex-a7 -L /usr/arm-linux-gnueabihf -U LD_PRELOAD ;;
    armv6) echo qemu-arm -cpu arm1176 -U LD_PRELOAD ;;
    amd64) ;;
    *)
        echo "cross/test.sh: no ARCH is called $1; arm64, arm64-musl, armhf, armv6 and amd64 are" >&2
        exit 2
        ;;
    esac
}

# Holds a program, behind what runs it, to parts of the specification.
hold() {
    HEADWATER_UNDER_TEST=$1
    export HEADWATER_UNDER_TEST
    shift
    $cargo test --locked --no-fail-fast --test main_job -- "$@"
}

left=
for arch; do
    status=0 passed=target/cross/$arch/passed
    rm -f "$passed"
    sh cross/build.sh "$arch" || status=$?
    case $status in
    0)
        emulator=$(emulator_of "$arch")
        program=target/cross/$arch/headwater
        opens_ports=$program
        echo "Running the specification with $program, but for serial lines"
        hold "$emulator $PWD/$program" boards:: power:: life:: delivery::
        if [ -n "$emulator" ]; then
            opens_ports=target/cross/build/$arch-opens-ports
            python3 cross/serial_ports.py "$program" "$opens_ports"
        fi
        echo "Running what it says about serial lines with $opens_ports"
        hold "$emulator $PWD/$opens_ports" serial::
        sha256sum "$program" >"$passed"
        ;;
    75) left="$left $arch" ;;
    *) exit "$status" ;;
    esac
done
[ -z "$left" ] || echo "make emulated left these boards out, because what builds for them could not be downloaded:$left"
