# The virtual machine's parts, made once: qemu, a kernel and a disk image.
#
# qemu is Debian 13's also on Debian 12: version 7.2 corrupts kernel 6.12. It runs from
# its own directory by that system's own loader, so nothing is installed on the host.
# shellcheck shell=bash

QEMU_SUITE=trixie
KERNEL_PACKAGE=linux-image-cloud-amd64

qemu_key() { hash_of "$QEMU_SUITE" "$KERNEL_PACKAGE" "$(declare -f build_qemu)"; }

# build_qemu OUT: OUT/root (a Debian with qemu) and OUT/kernel (boot, usr/lib/modules).
build_qemu() {
    local root=$1/root
    debootstrap --variant=minbase --include=qemu-system-x86,qemu-utils "$QEMU_SUITE" "$root" ${BASE_MIRROR:+"$BASE_MIRROR"}
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" apt-get update -qq
    # shellcheck disable=SC2016 # expanded in the chroot
    chroot "$root" sh -c 'cd /tmp && apt-get download -qq $(apt-cache depends '"$KERNEL_PACKAGE"' | sed -n "s/.*Depends: //p")'
    dpkg -x "$root"/tmp/linux-image-*.deb "$1/kernel"
    rm -rf "$root"/{tmp,var/cache/apt,var/lib/apt/lists,usr/share/doc,usr/share/locale}/*
}

vm_image_key() { hash_of "$BASE" "$LAYER" "$QEMU" "$REPO"/hack/testbed/vm/* "$REPO/hack/lib/vm-image.sh"; }

# build_vm_image OUT: kernel, initrd, base.img and the key that opens the machine.
build_vm_image() {
    local out=$1
    cp "$QEMU"/kernel/boot/vmlinuz-* "$out/kernel"
    vm_initrd "$out/scratch" >"$out/initrd"
    ssh-keygen -q -t ed25519 -N '' -C gantry -f "$out/key"
    mkdir -p "$out"/scratch/{upper,over,root}
    vm_files "$out/scratch/upper" "$out/key.pub"
    # The merged tree, and the containerd that fills it, exist only in these namespaces.
    unshare --mount --pid --fork --kill-child --net "$REPO/hack/lib/vm-image-fill.sh" \
        "$LAYER:$QEMU/kernel:$BASE" "$out/scratch" "$out/base.img" "imported-$(basename "$IMAGES")"
    rm -rf "$out/scratch"
}

vm_initrd() {
    mkdir -p "$1/initrd/bin"
    cp /usr/bin/busybox "$1/initrd/bin/busybox"
    cp "$REPO/hack/testbed/vm/init" "$1/initrd/init"
    chmod 755 "$1/initrd/init"
    busybox xz -dc "$QEMU"/kernel/usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz >"$1/initrd/virtio_blk.ko"
    (cd "$1/initrd" && find . | busybox cpio -o -H newc 2>/dev/null)
}

vm_files() {
    local etc=$1/etc
    mkdir -p "$etc"/{systemd/system,modules-load.d,default,dropbear,cni/net.d} "$1/root/.ssh"
    cp "$REPO"/hack/testbed/vm/*.service "$etc/systemd/system/"
    cp "$REPO/hack/testbed/vm/modules.conf" "$etc/modules-load.d/gantry.conf"
    machine_identity vm "$(address_of vm)" "$etc"
    printf 'ADDRESS=%s\nGATEWAY=%s\n' "$(address_of vm)" "$GATEWAY" >"$etc/default/network"
    cp "$2" "$1/root/.ssh/authorized_keys"
    chmod 700 "$1/root" "$1/root/.ssh"
}
