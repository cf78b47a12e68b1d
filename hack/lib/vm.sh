# A virtual machine with Debian's own kernel, systemd and cgroup v2, as one more node.
# It is emulated unless GANTRY_VM_ACCEL=kvm, so it shows behaviour, never speed.
#
# $RUN/vm/
#   process, disk.qcow2, console.log, qemu.log
#   key, ssh, ssh.process     a connection that stays open: opening one takes seconds there
# shellcheck shell=bash

# The programs of the other Debian, by its own loader.
qemu_tool() {
    local root=$QEMU/root tool=$1
    shift
    "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/$tool" "$@"
}

vm_alive() { live_process "$RUN/vm/process"; }

vm_build() {
    [[ $(uname -m) == x86_64 ]] || die "the virtual machine is made for x86_64 only"
    cached qemu "$(qemu_key)" build_qemu
    QEMU=$CACHED
    cached vm-image "$(vm_image_key)" build_vm_image
    VM_IMAGE=$CACHED
}

vm_boot() {
    vm_alive >/dev/null && return 0
    rm -rf "$RUN/vm"
    mkdir -p "$RUN/vm"
    ln -s "$VM_IMAGE/key" "$RUN/vm/key"
    qemu_tool qemu-img create -q -f qcow2 -b "$VM_IMAGE/base.img" -F raw "$RUN/vm/disk.qcow2"
    in_network ip link delete vm 2>/dev/null || true
    in_network ip tuntap add vm mode tap
    in_network ip link set vm master br0 up
    vm_start
    wait_until 180 "the virtual machine answers" vm_connect
    # Nothing sets its clock but this.
    vm_run date -s "@$(date +%s)"
}

vm_start() {
    local root=$QEMU/root accelerator=tcg,thread=multi cpu=max
    [[ ${GANTRY_VM_ACCEL-} != kvm ]] || accelerator=kvm cpu=host
    local arguments=(-M q35 -accel $accelerator -cpu $cpu -smp 2 -m 3072
        -nodefaults -no-user-config -display none -no-reboot -serial "file:$RUN/vm/console.log"
        -L "$root/usr/share/qemu" -L "$root/usr/share/seabios"
        -kernel "$VM_IMAGE/kernel" -initrd "$VM_IMAGE/initrd"
        -append "console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off net.ifnames=0 random.trust_cpu=on
            systemd.unified_cgroup_hierarchy=1 systemd.show_status=0 audit=0 tsc=unstable"
        -drive "if=none,id=disk,file=$RUN/vm/disk.qcow2,cache=unsafe" -device virtio-blk-pci,drive=disk
        -netdev tap,id=net,ifname=vm,script=no,downscript=no -device virtio-net-pci,netdev=net,romfile=
        -object rng-random,id=random,filename=/dev/urandom -device virtio-rng-pci,rng=random)
    setsid nsenter -t "$(live_process "$(network_process)")" -n \
        "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" "$root/usr/bin/qemu-system-x86_64" \
        "${arguments[@]}" </dev/null >"$RUN/vm/qemu.log" 2>&1 9>&- &
    save_process "$RUN/vm/process" $!
    disown $!
}

vm_ssh() {
    in_network ssh -i "$RUN/vm/key" -o ControlPath="$RUN/vm/ssh" -o BatchMode=yes -o ConnectTimeout=5 \
        -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@" 9>&-
}

vm_connect() {
    vm_ssh -fMN "root@$(address_of vm)" </dev/null >/dev/null 2>&1 || return 1
    save_process "$RUN/vm/ssh.process" "$(vm_ssh -O check vm 2>&1 | tr -dc 0-9)"
}

# vm_run COMMAND...: each argument arrives as it is.
vm_run() {
    vm_alive >/dev/null || { say "the virtual machine does not run: hack/vm up"; return 125; }
    vm_ssh "root@$(address_of vm)" -- "$(printf '%q ' "$@")"
}

# vm_receive FILE PATH: a program for the machine, without the cost of encryption.
vm_receive() {
    in_network socat -u "FILE:$1" "TCP-LISTEN:2000,bind=$GATEWAY,reuseaddr" 9>&- &
    # shellcheck disable=SC2016
    vm_run sh -c 'socat -u "TCP:$1:2000,retry=20,interval=0.1" "CREATE:$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0"' "$2" "$GATEWAY"
    wait $!
}

vm_remove() {
    [[ -d $RUN/vm ]] || return 0
    end_process "$RUN/vm/ssh.process"
    end_process "$RUN/vm/process"
    [[ -z $(live_process "$(network_process)") ]] || in_network ip link delete vm || true
    rm -rf "$RUN/vm"
}
