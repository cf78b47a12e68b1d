# Tests of packets in a virtual machine of their own: a kernel, and all else in its memory.
# shellcheck shell=bash

# vm_kernel VERSION: sets KERNEL to a directory with boot/ and the modules.
vm_kernel() {
    cached qemu "$(qemu_key)" build_qemu
    QEMU=$CACHED KERNEL=$CACHED/kernel
    [[ $1 == 6.1 ]] || return 0
    cached kernel-6.1 "$(hash_of "$BASE_SUITE" "$KERNEL_PACKAGE" "$(declare -f build_kernel)")" build_kernel "$BASE_SUITE"
    KERNEL=$CACHED
}

# build_kernel OUT SUITE: that Debian's kernel.
build_kernel() {
    local root=$1/root
    debootstrap --variant=minbase "$2" "$root" ${BASE_MIRROR:+"$BASE_MIRROR"}
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" apt-get update -qq
    # shellcheck disable=SC2016 # expanded in the chroot
    chroot "$root" sh -c 'cd /tmp && apt-get download -qq $(apt-cache depends '"$KERNEL_PACKAGE"' | sed -n "s/.*Depends: //p")'
    dpkg -x "$root"/tmp/linux-image-*.deb "$1"
    rm -rf "$root"
}

# vm_packets VERSION WITHOUT PROGRAM BESIDE PLACE ARGUMENT...: runs the tests; WITHOUT is empty, ipv6 or bridge; BESIDE is empty or
# another program, which is at PLACE there.
vm_packets() {
    local version=$1 without=$2 work status
    shift 2
    cached base "$(base_key)" build_base
    BASE=$CACHED
    vm_kernel "$version"
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # this directory
    trap "rm -rf '$work'" EXIT
    step "a root for kernel $version" packets_root "$work/root" "$without" "$@"
    (cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/initrd"
    packets_machine "$work/initrd" "${without:+$without.disable=1}" | tee "$work/console" | sed -u 's/\r$//' >&2
    status=$(sed -n 's/^packets: exit \([0-9]*\).*/\1/p' "$work/console")
    [[ $status == 0 ]] || die "the tests on kernel $version${without:+ without $without}: exit ${status:-unknown}"
}

# packets_machine INITRD WORD...: boots it with these words for the kernel.
packets_machine() {
    local root=$QEMU/root accelerator=tcg,thread=multi cpu=max
    [[ ${GANTRY_VM_ACCEL-} != kvm ]] || accelerator=kvm cpu=host
    "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64" \
        -M q35 -accel $accelerator -cpu $cpu -smp 2 -m 2048 -nodefaults -no-user-config -display none -no-reboot -nic none \
        -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -serial stdio \
        -kernel "$(echo "$KERNEL"/boot/vmlinuz-*)" -initrd "$1" \
        -append "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on audit=0 tsc=unstable rdinit=/init ${*:2}" </dev/null
}

# packets_root ROOT WITHOUT PROGRAM BESIDE PLACE ARGUMENT...: the files of such a machine.
packets_root() {
    local root=$1 without=$2 program=$3 beside=$4 place=$5 file tool modules
    shift 5
    mkdir -p "$root"/{bin,sbin,proc,sys,dev,run,tmp,etc,var,lib/modules}
    ln -s /run "$root/var/run"
    cp /usr/bin/busybox "$root/bin/busybox"
    for tool in ip nft conntrack kmod; do
        tool=$(chroot "$BASE" sh -c "command -v $tool || echo /usr/bin/$tool")
        cp -L "$BASE$tool" "$root/bin/"
        for file in $(chroot "$BASE" ldd "$tool" | grep -o '/[^ ]*'); do
            mkdir -p "$root$(dirname "$file")"
            cp -L "$BASE$file" "$root$file"
        done
    done
    for tool in modprobe depmod; do ln -s /bin/kmod "$root/sbin/$tool"; done
    # Debian 12 has them in /lib, Debian 13 in /usr/lib.
    modules=$(find "$KERNEL/lib/modules" "$KERNEL/usr/lib/modules" -mindepth 1 -maxdepth 1 2>/dev/null | sed -n 1p || true)
    packets_modules "$modules" "$root/lib/modules" "$without"
    cp "$program" "$root/packets"
    strip "$root/packets"
    [[ -z $beside ]] || install -D "$beside" "$root$place"
    printf '%s\n' "$@" >"$root/arguments"
    cp "$REPO/hack/testbed/vm/packets-init" "$root/init"
    chmod 755 "$root/init"
}

# packets_modules FROM TO WITHOUT: those of networks and what they need, but that one.
packets_modules() {
    local version part
    version=$(basename "$1")
    for part in net lib crypto arch drivers/net/veth.ko* drivers/net/dummy.ko*; do
        part=$(cd "$1/kernel" && echo $part)
        mkdir -p "$2/$version/kernel/$(dirname "$part")"
        cp -a "$1/kernel/$part" "$2/$version/kernel/$part"
    done
    [[ -z $3 ]] || find "$2" -name "$3.ko*" -delete
    cp "$1"/modules.{order,builtin,builtin.modinfo} "$2/$version/"
    chroot "$(dirname "$(dirname "$2")")" /sbin/depmod "$version"
}
