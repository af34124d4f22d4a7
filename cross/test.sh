#!/bin/sh
# Builds for boards, and holds each binary to the specification under qemu-user: the field, the cloud and the tests are this machine's, the
# agent between them is the board's.
#
# Usage: sh cross/test.sh [ARCH...]      as cross/build.sh names them; without ARCH: those for boards
#
# Two of them are in the packages for boards: arm64, and armv6 in the one for armhf. One commit always gives the same bytes
# (packaging/reproducible.sh), so what is tested here is what is in a package of that commit, whoever makes it.
#
# A board whose compiler or library can't be downloaded is left out, and that is said; everything else that goes wrong is a failure.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
[ $# -gt 0 ] || set -- arm64 arm64-musl armhf armv6

# Prints the command that runs this board's programs; this machine's own need none. The wall clock of a test is set by libfaketime in
# front of the emulator, which must not hand it on; and the emulator knows no serial ports by their names, but for what cross/termios2.c
# does about it.
emulator_of() {
    case $1 in
    arm64) echo qemu-aarch64 -L /usr/aarch64-linux-gnu -U LD_PRELOAD -E "LD_PRELOAD=$(serial_ports aarch64-linux-gnu)" ;;
    arm64-musl) echo qemu-aarch64 -U LD_PRELOAD ;;
    armhf) echo qemu-arm -cpu cortex-a7 -L /usr/arm-linux-gnueabihf -U LD_PRELOAD -E "LD_PRELOAD=$(serial_ports arm-linux-gnueabihf)" ;;
    armv6) echo qemu-arm -cpu arm1176 -U LD_PRELOAD ;;
    amd64) ;;
    *)
        echo "cross/test.sh: no ARCH is called $1; arm64, arm64-musl, armhf, armv6 and amd64 are" >&2
        exit 2
        ;;
    esac
}

serial_ports() {
    library=$PWD/target/cross/build/termios2-$1.so
    target/tools/cross/bin/python -m ziglang cc -target "$1" -shared -fPIC -Os -o "$library" cross/termios2.c
    echo "$library"
}

# A static program takes no library along, so those do without the sentences that open a serial line.
sentences_for() {
    echo boards:: power:: life:: delivery::
    case $1 in
    arm64-musl | armv6)
        for sentence in _of_a_serial_line_ systemd_is_told_ told_to_stop_everything_ while_the_endpoint_is_away_; do
            echo --skip "$sentence"
        done
        ;;
    esac
}

left=
for arch; do
    status=0
    sh cross/build.sh "$arch" || status=$?
    case $status in
    0)
        emulator=$(emulator_of "$arch")
        echo "Running the specification with target/cross/$arch/headwater"
        # shellcheck disable=SC2046 # a list
        HEADWATER_UNDER_TEST="$emulator $PWD/target/cross/$arch/headwater" \
            $cargo test --locked --no-fail-fast --test main_job -- $(sentences_for "$arch")
        ;;
    75) left="$left $arch" ;;
    *) exit "$status" ;;
    esac
done
[ -z "$left" ] || echo "make emulated left these boards out, because what builds for them could not be downloaded:$left"
