# The image of gantry's daemon: the static programs on an empty base, as an OCI image layout in a tar archive, made
# without a registry or a container engine. The same programs give the same bytes.
# shellcheck shell=bash

NODE_IMAGE=gantry/node
INSTALL=$REPO/manifests/install.yaml

workspace_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$REPO/Cargo.toml"; }

# node_image PROXY CNI [SUFFIX]: sets CACHED to a directory with image.tar and TAG to the image's tag, the version; with SUFFIX and the
# programs' digest behind it, so that other programs have another name.
node_image() {
    local key
    key=$(hash_of "$1" "$2" "$REPO/hack/lib/node-image.sh" "$REPO/Cargo.toml" "${3-}")
    TAG=$(workspace_version)${3:+-$3$key}
    cached node-image "$key" build_node_image "$1" "$2" "$TAG"
}

# build_node_image OUT PROXY CNI TAG: OUT/image.tar
build_node_image() {
    local out=$1 work=$1/work layer config manifest
    mkdir -p "$work"/{rootfs/usr/bin,layout/blobs/sha256}
    install -m 755 "$2" "$work/rootfs/usr/bin/gantry-proxy"
    install -m 755 "$3" "$work/rootfs/usr/bin/gantry-cni"
    chmod -R u=rwX,go=rX "$work/rootfs"
    tar_of "$work/rootfs" >"$work/blob"
    layer=$(blob "$work" application/vnd.oci.image.layer.v1.tar)
    jq -cn --argjson layer "$layer" --arg arch "$(go_arch)" '{
        architecture: $arch, os: "linux", created: "1970-01-01T00:00:00Z",
        config: {Entrypoint: ["/usr/bin/gantry-proxy"], Env: ["PATH=/usr/bin"], WorkingDir: "/"},
        rootfs: {type: "layers", diff_ids: [$layer.digest]},
        history: [{created: "1970-01-01T00:00:00Z", created_by: "hack/image"}]}' >"$work/blob"
    config=$(blob "$work" application/vnd.oci.image.config.v1+json)
    jq -cn --argjson config "$config" --argjson layer "$layer" '{schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config, layers: [$layer]}' >"$work/blob"
    manifest=$(blob "$work" application/vnd.oci.image.manifest.v1+json)
    jq -cn --argjson manifest "$manifest" --arg name "docker.io/$NODE_IMAGE:$4" --arg tag "$4" --arg arch "$(go_arch)" '{schemaVersion: 2,
        mediaType: "application/vnd.oci.image.index.v1+json",
        manifests: [$manifest + {platform: {architecture: $arch, os: "linux"},
            annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": $tag}}]}' >"$work/layout/index.json"
    echo '{"imageLayoutVersion":"1.0.0"}' >"$work/layout/oci-layout"
    chmod -R u=rwX,go=rX "$work/layout"
    tar_of "$work/layout" >"$out/image.tar"
    rm -rf "$work"
}

# blob WORK TYPE: moves WORK/blob to its place in the layout and prints its descriptor.
blob() {
    local digest
    digest=$(sha256sum <"$1/blob" | cut -d' ' -f1)
    jq -cn --arg type "$2" --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$1/blob")" \
        '{mediaType: $type, digest: $digest, size: $size}'
    mv "$1/blob" "$1/layout/blobs/sha256/$digest"
}

# The machine's architecture, as image indexes name it.
go_arch() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) uname -m ;;
    esac
}
