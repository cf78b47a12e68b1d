#!/bin/bash
# Makes the virtual machine's disk image, in namespaces of its own (see build_vm_image).
#
# usage: vm-image-fill.sh LOWER WORK IMAGE MARK    (LOWER: overlay lower directories; WORK: upper, over, root)
#
# The container images are imported here, because emulation would take a minute for it.
set -euo pipefail

lower=$1 work=$2 image=$3 mark=$4 root=$2/root

mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/over" "$root"
# No overlay on an overlay: what containerd unpacks is on the host's file system.
mkdir -p "$root/var/lib/containerd" "$work/containerd"
mount --bind "$work/containerd" "$root/var/lib/containerd"

chroot "$root" depmod "$(ls "$root/lib/modules")"
chroot "$root" dropbearkey -t ed25519 -f /etc/dropbear/host_key
chroot "$root" systemctl enable network shell

mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
echo 'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]' \
    >"$root/tmp/config.toml"
chroot "$root" containerd --config /tmp/config.toml --log-level error &
containerd=$!
for ((attempt = 0; attempt < 100; attempt++)); do
    chroot "$root" ctr version >/dev/null 2>&1 && break
    sleep 0.1
done
chroot "$root" ctr -n k8s.io images import /usr/share/gantry/images.tar
touch "$root/var/lib/containerd/$mark"
kill $containerd
wait $containerd || true
umount "$root"/{proc,run,tmp}

mkfs.ext4 -q -F -O ^has_journal -d "$root" "$image" 6G
