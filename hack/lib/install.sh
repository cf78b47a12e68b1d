# What the test bed needs on the host: Debian packages are installed when missing,
# the Rust and Go tool chains are asked for.
# shellcheck shell=bash

# command or file that shows it is there -> package
host_packages() {
    cat <<'LIST'
/usr/sbin/debootstrap debootstrap
/usr/include/seccomp.h libseccomp-dev
/usr/bin/gcc gcc
/usr/lib/x86_64-linux-gnu/libc.a libc6-dev
/usr/bin/busybox busybox-static
/usr/bin/jq jq
/usr/bin/flock util-linux
/usr/sbin/ip iproute2
/usr/sbin/nft nftables
/usr/bin/curl curl
/usr/bin/ssh openssh-client
/usr/bin/socat socat
/usr/sbin/mkfs.ext4 e2fsprogs
/usr/bin/pkg-config pkg-config
/usr/bin/protoc protobuf-compiler
/usr/sbin/conntrack conntrack
LIST
}

install_host_packages() {
    local file package missing=()
    while read -r file package; do
        [[ -e ${file/x86_64/$(uname -m)} ]] || missing+=("$package")
    done < <(host_packages)
    ((${#missing[@]})) || return 0
    apt_install "${missing[@]}"
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -qq --no-install-recommends "$@" && return 0
    apt-get update -qq
    apt-get install -qq --no-install-recommends "$@"
}

# Finds go and cargo also where their installers put them.
require_toolchains() {
    export PATH=$PATH:/usr/local/go/bin:$HOME/.cargo/bin
    local tool missing=()
    for tool in go cargo; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) ||
        die "missing: ${missing[*]} (Go 1.26 or newer: https://go.dev/dl, Rust: https://rustup.rs)"
}
