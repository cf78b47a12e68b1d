#!/bin/bash
# The first process of a machine, started in new namespaces by machine_boot: builds the
# machine's file tree, makes it the root and becomes systemd.
#
# usage: machine-init.sh NAME DIR LOWER     (LOWER: overlay lower directories, topmost first)
#
# pivot_root fails when the new root is a shared mount, and an init that started after
# such a failure would run on the host's own files. So every error ends the script,
# mounts are private until the end, and the mark is looked for before systemd starts.
set -euo pipefail

name=$1 dir=$2 lower=$3 root=$2/root

# Into its cgroups first, alone: with v2, a stranger in them would keep systemd from
# handing controllers down. The namespace then shows them as the root.
if [[ -z ${IN_CGROUP-} ]]; then
    source "${0%/*}/common.sh"
    source "${0%/*}/cgroups.sh"
    cgroup_enter "$name"
    IN_CGROUP=1 exec unshare --cgroup "$0" "$@"
fi

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$root"
# No overlay on an overlay: what containerd and the agent keep is on the host's file system.
for state in containerd kubelet; do
    mkdir -p "$root/var/lib/$state"
    mount --bind "$dir/$state" "$root/var/lib/$state"
done

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"

mount -t tmpfs -o nosuid,mode=755 tmpfs "$root/dev"
mkdir -p "$root"/dev/{pts,shm,mqueue,net}
while read -r name major minor; do
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done <<'NODES'
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
kmsg 1 11
tty 5 0
net/tun 10 200
console 1 3
NODES
ln -s /proc/self/fd "$root/dev/fd"
ln -s /proc/self/fd/0 "$root/dev/stdin"
ln -s /proc/self/fd/1 "$root/dev/stdout"
ln -s /proc/self/fd/2 "$root/dev/stderr"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
mount -t mqueue mqueue "$root/dev/mqueue"

# Mounted afresh in the new cgroup namespace, each hierarchy shows the machine's own
# cgroup as its root.
if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs -o nosuid,nodev,noexec,mode=755 tmpfs "$root/sys/fs/cgroup"
    while read -r point type options; do
        mkdir -p "$root$point"
        mount -t "$type" ${options:+-o "$options"} cgroup "$root$point"
    done < <(awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup/" {
        n = split($4, all, ","); options = ""
        for (i = 1; i <= n; i++) {
            if (all[i] ~ /^(rw|relatime|nosuid|nodev|noexec|xattr|nsdelegate|memory_.*|release_agent=.*)$/) continue
            if (all[i] ~ /^name=/) all[i] = "none," all[i]
            options = options (options == "" ? "" : ",") all[i]
        }
        print $2, $3, options }' /proc/self/mounts)
fi

hostname "$(cat "$root/etc/hostname")"
cd "$root"
mkdir -p .host
pivot_root . .host
umount -l /.host
rmdir /.host
[[ -f /etc/gantry-machine ]] || exit 1
mount --make-rshared /
exec env -i container=gantry PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd
