#!/bin/sh
# Boots a Debian in a container, in the foreground: SIGTERM halts it in order, SIGKILL of its first process is a power cut.
#
# Usage: boot.sh ROOT CARD shared|none [--trial]
#
# ROOT stays as it is: what changes is written to CARD, and is there at the next boot. The network is this machine's (`shared`), or
# there is none but loopback. With --trial it halts by itself, and the exit code says whether a service could be started.
set -eu

root=$(realpath "$1")
card=$(realpath "$2")
network=$3
mkdir -p "$card/upper" "$card/work" "$card/merged"

# A mount of our own, gone with the last of our processes.
if [ "${HEADWATER_BOOT:-}" != "$$" ]; then
    HEADWATER_BOOT=$$ exec unshare --mount --propagation private sh "$0" "$@"
fi
unset HEADWATER_BOOT
mount -t overlay overlay -o "lowerdir=$root,upperdir=$card/upper,workdir=$card/work" "$card/merged"

if [ "${4:-}" = --trial ]; then
    # It asks of the machine what units ask of it that confine their services.
    cat >"$card/merged/etc/systemd/system/trial.service" <<'UNIT'
[Unit]
SuccessAction=exit
FailureAction=exit
FailureActionExitStatus=1
[Service]
Type=oneshot
ExecStart=/bin/true
User=daemon
PrivateTmp=yes
PrivateUsers=yes
ProtectSystem=strict
RestrictNamespaces=yes
SystemCallFilter=@system-service
[Install]
WantedBy=multi-user.target
UNIT
    systemctl --quiet --root="$card/merged" enable trial.service
fi

# Without systemd on this machine nobody gives the container a control group of its own, and its systemd would take over ours.
set --
if [ -d /run/systemd/system ]; then
    # The one that it gets there keeps it from all devices of this machine; these are serial ports, which the agent may open.
    for major in 188 166 216 204 4; do set -- "$@" "--property=DeviceAllow=char-$major rwm"; done
else
    set -- --keep-unit
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
        if [ -w "$hierarchy/cgroup.procs" ]; then
            mkdir -p "$hierarchy/headwater-board-$$"
            echo $$ >"$hierarchy/headwater-board-$$/cgroup.procs"
        fi
    done
fi
# Its own network is its own to administer, and without that right systemd can't fence devices off.
[ "$network" = shared ] ||
    set -- "$@" --private-network --capability=CAP_NET_ADMIN,CAP_BPF,CAP_PERFMON --system-call-filter=bpf
SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec systemd-nspawn --quiet --directory="$card/merged" --boot --machine="headwater-board-$$" \
    --register=no --console=pipe --resolv-conf=off --timezone=off --link-journal=no "$@"
