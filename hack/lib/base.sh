# The base of every machine: Debian 12 with systemd, made once by debootstrap.
# shellcheck shell=bash

BASE_SUITE=bookworm
# Where packages come from: debootstrap's own default unless given.
BASE_MIRROR=${GANTRY_MIRROR-}
BASE_PACKAGES=systemd,systemd-sysv,dbus,iproute2,kmod,procps,nftables,conntrack,ethtool,socat,iptables
BASE_PACKAGES+=,mount,util-linux,ca-certificates,curl,libseccomp2,iputils-ping,bind9-host,jq,less,dropbear-bin

base_key() { hash_of "$BASE_SUITE" "$BASE_PACKAGES" "$REPO/hack/lib/base.sh" "$(uname -m)"; }

build_base() {
    debootstrap --variant=minbase --include="$BASE_PACKAGES" "$BASE_SUITE" "$1" ${BASE_MIRROR:+"$BASE_MIRROR"}
    rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/* "$1"/etc/{hostname,machine-id,resolv.conf}
    : >"$1/etc/machine-id"
    quiet_units "$1"
    # journald keeps its logs with the machine.
    mkdir -p "$1/var/log/journal" "$1/etc/sysctl.d"
    cat >"$1/etc/sysctl.d/90-kubernetes.conf" <<'CONF'
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
CONF
}

# Units that have nothing to do in a machine without a console, disks or time of its own.
quiet_units() {
    local unit
    for unit in getty@tty1 console-getty serial-getty@ttyS0 systemd-timesyncd apt-daily.timer apt-daily-upgrade.timer \
        dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap fstrim.timer systemd-remount-fs systemd-firstboot \
        systemd-random-seed systemd-update-utmp; do
        [[ $unit == *.timer ]] || unit+=.service
        ln -sf /dev/null "$1/etc/systemd/system/$unit"
    done
}
