# Container images made from files, without a registry: docker archives (a layer, a config
# and a manifest for each image), all in one tar that "ctr image import" reads.
# shellcheck shell=bash

# containerd's default sandbox image and the one kubeadm 1.36 names, then a plain one.
PAUSE_NAMES=(registry.k8s.io/pause:3.10.2 registry.k8s.io/pause:3.10.1 registry.k8s.io/pause:3.10)
BUSYBOX_NAMES=(docker.io/library/busybox:1.36 docker.io/library/busybox:latest)
COREDNS_NAMES=(registry.k8s.io/coredns/coredns:v1.14.2)
HELLO_NAMES=(docker.io/library/hello:1)

images_key() {
    hash_of "$REPO/hack/lib/images.sh" "$REPO/hack/testbed/hello/main.go" "$REPO/hack/testbed/pause/pause.c" \
        /usr/bin/busybox "$(module_key coredns)"
}

# build_images OUT: OUT/images.tar
build_images() {
    local out=$1 coredns=$2 work=$1/work
    mkdir -p "$work"/{archive,hello,pause/rootfs,busybox/rootfs,coredns/rootfs,hello/rootfs}
    gcc -static -Os -s -Wall -Wextra -Werror -o "$work/pause/rootfs/pause" "$REPO/hack/testbed/pause/pause.c"
    build_hello "$work/hello/rootfs"
    ln "$coredns/coredns" "$work/coredns/rootfs/coredns"
    busybox_rootfs "$work/busybox/rootfs"
    {
        image "$work" pause '{"Entrypoint":["/pause"],"User":"65535:65535"}' "${PAUSE_NAMES[@]}"
        image "$work" busybox '{"Cmd":["sh"]}' "${BUSYBOX_NAMES[@]}"
        image "$work" coredns '{"Entrypoint":["/coredns"],"WorkingDir":"/","User":"65532:65532"}' "${COREDNS_NAMES[@]}"
        image "$work" hello '{"Entrypoint":["/hello"],"User":"65532:65532","ExposedPorts":{"8080/tcp":{},"8081/udp":{}}}' "${HELLO_NAMES[@]}"
    } | jq -s . >"$work/archive/manifest.json"
    tar_of "$work/archive" >"$out/images.tar"
    rm -rf "$work"
}

busybox_rootfs() {
    local root=$1 applet
    mkdir -p "$root"/{bin,etc,tmp,var,home,root}
    chmod 1777 "$root/tmp"
    cp /usr/bin/busybox "$root/bin/busybox"
    for applet in $(/usr/bin/busybox --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
}

# image WORK NAME CONFIG TAG...: adds WORK/NAME/rootfs to the archive and prints its manifest entry.
image() {
    local archive=$1/archive name=$2 config=$3 layer id
    tar_of "$1/$name/rootfs" >"$archive/$name.tar"
    layer=$(sha256sum <"$archive/$name.tar" | cut -d' ' -f1)
    jq -cn --argjson config "$config" --arg layer "sha256:$layer" --arg arch "$(go env GOARCH)" '{
        architecture: $arch, os: "linux", created: "2026-01-01T00:00:00Z",
        config: ({Env: ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"]} + $config),
        rootfs: {type: "layers", diff_ids: [$layer]},
        history: [{created: "2026-01-01T00:00:00Z", created_by: "gantry test bed"}]}' >"$archive/$name.json"
    id=$(sha256sum <"$archive/$name.json" | cut -d' ' -f1)
    mv "$archive/$name.json" "$archive/$id.json"
    jq -cn '{Config: $ARGS.positional[0], Layers: [$ARGS.positional[1]], RepoTags: $ARGS.positional[2:]}' \
        --args "$id.json" "$name.tar" "${@:4}"
}

# The same files give the same bytes, so that layers keep their digests.
tar_of() { tar -C "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --format=gnu -cf - .; }
