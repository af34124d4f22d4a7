#!/bin/sh
# Makes what the booted tests stand on, where it is missing: target/booted/debian, a Debian with systemd and mosquitto, the same as this
# machine's, and one trial boot of it. Nothing outside target changes but the Debian packages.
#
# Ends with 3, and says why, on a machine that lacks what a container needs: then these tests are left out. Where it has all of that and the
# trial boot fails all the same, that is a failure like any other, and ends with 1.
set -eu

cd "$(dirname "$0")/../.."
place=target/booted
root=$place/debian
stamp=$place/complete

left_out() {
    echo "make test-systemd is left out: $*"
    exit 3
}

fail() {
    echo "make test-systemd can't go on: $*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

missing_debian_packages() {
    has systemd-nspawn || echo systemd-container
    has mmdebstrap || echo mmdebstrap
    has lintian || echo lintian
}

install_debian_packages() {
    packages=$(echo $(missing_debian_packages))
    [ -n "$packages" ] || return 0
    echo "Installing from Debian: $packages"
    DEBIAN_FRONTEND=noninteractive sh -c "apt-get update && apt-get install -y --no-install-recommends $packages" >"$place/apt.log" 2>&1 || {
        tail -n 5 "$place/apt.log" >&2
        fail "apt-get failed, see $place/apt.log"
    }
}

# The packages come from where this machine's own come from.
make_debian() {
    [ ! -e "$stamp" ] || return 0
    echo "Making $root, a Debian to boot"
    rm -rf "$root"
    sources=$(find /etc/apt/sources.list /etc/apt/sources.list.d -type f -size +0 2>/dev/null | sort)
    # shellcheck disable=SC2086 # a list
    mmdebstrap --quiet --mode=root --variant=apt --format=directory --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' \
        --include=systemd,systemd-sysv,dbus,ca-certificates,mosquitto,mosquitto-clients,procps "$VERSION_CODENAME" "$root" $sources \
        >"$place/mmdebstrap.log" 2>&1 || {
        tail -n 5 "$place/mmdebstrap.log" >&2
        fail "mmdebstrap failed, see $place/mmdebstrap.log"
    }
    # Each boot is one of many, not the first; what asks the network by itself, or for a log-in, has no place here.
    head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$root/etc/machine-id"
    echo board >"$root/etc/hostname"
    systemctl --quiet --root="$root" disable mosquitto
    systemctl --quiet --root="$root" mask apt-daily.timer apt-daily-upgrade.timer systemd-timesyncd.service \
        console-getty.service getty.target
    touch "$stamp"
}

# What a container needs of the machine, and this one does not let it have; nothing where it has all.
missing_in_this_machine() {
    for namespace in mount pid uts ipc net cgroup user; do
        unshare --fork --$namespace true 2>/dev/null || echo "$namespace namespaces"
    done
    unshare --fork --pid --mount-proc true 2>/dev/null || echo "a /proc of its own"
    trial=$(mktemp -d "$PWD/$place/trial.XXXXXX")
    mkdir "$trial/lower" "$trial/upper" "$trial/work" "$trial/merged"
    unshare --mount --propagation private mount -t overlay overlay \
        -o "lowerdir=$trial/lower,upperdir=$trial/upper,workdir=$trial/work" "$trial/merged" 2>/dev/null || echo "an overlay on $place"
    mknod "$trial/null" c 1 3 2>/dev/null || echo "device files"
    rm -rf "$trial"
    [ -d /run/systemd/system ] || makes_control_group || echo "a control group"
}

# As boot.sh makes one, without systemd on this machine.
makes_control_group() {
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        group=$hierarchy/headwater-board-trial-$$
        if [ -w "$hierarchy/cgroup.procs" ] && mkdir "$group" 2>/dev/null; then
            rmdir "$group"
            return 0
        fi
    done
    return 1
}

# Whether a container boots here, with a service in it that has a sandbox. Nothing of ours is in it yet.
boots() {
    card=$(mktemp -d "$PWD/$place/trial.XXXXXX")
    came_up=yes
    timeout 120 sh tests/booted/boot.sh "$root" "$card" shared --trial </dev/null >"$place/boot.log" 2>&1 || came_up=no
    rm -rf "$card"
    [ $came_up = yes ]
}

[ "$(id -u)" = 0 ] || left_out "only root may boot a container"
has apt-get || left_out "it needs a Debian, and apt-get is not here"
. /etc/os-release
[ "${ID:-}" = debian ] || left_out "it needs a Debian, and this is ${PRETTY_NAME:-something else}"
mkdir -p "$place"
missing=$(missing_in_this_machine)
[ -z "$missing" ] || left_out "no container boots here, where it may not have: $(echo "$missing" | paste -s -d ',' -)"
install_debian_packages
make_debian
boots || {
    cat "$place/boot.log" >&2
    fail "no container boots here, although the machine has what one needs, see $place/boot.log"
}
