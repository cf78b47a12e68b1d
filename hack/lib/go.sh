# The programs of the test bed that are built from pinned Go modules: one folder below
# hack/testbed for each, so that none changes the dependencies of another.
# shellcheck shell=bash

KUBERNETES_VERSION=v1.36.3

# go_build OUT_DIR FOLDER VARIABLES PACKAGE...: link PACKAGEs of the module in
# hack/testbed/FOLDER into OUT_DIR; VARIABLES are the linker's -X settings.
go_build() {
    local out=$1 folder=$2 variables=$3
    shift 3
    (cd "$REPO/hack/testbed/$folder" &&
        go build -mod=readonly -buildvcs=false -trimpath -ldflags "-s -w $variables" -o "$out/" "$@")
}

module_key() {
    # shellcheck disable=SC2046 # names without spaces, or none
    hash_of "$REPO/hack/testbed/$1"/go.{mod,sum} $(find "$REPO/hack/testbed/$1" -name '*.go' | sort) \
        "$REPO/hack/lib/go.sh" "$(go version)"
}

kubernetes_variables() {
    local package
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.%s ' \
            "$package" "gitVersion=$KUBERNETES_VERSION" \
            "$package" gitMajor=1 "$package" gitMinor=36 \
            "$package" gitTreeState=clean "$package" buildDate=2026-01-01T00:00:00Z
    done
}

build_controlplane() {
    local name
    CGO_ENABLED=0 go_build "$1" controlplane "$(kubernetes_variables)" .
    for name in kube-apiserver kube-controller-manager kube-scheduler kubectl kubeadm etcd; do
        ln -s controlplane "$1/$name"
    done
}

build_reference() { CGO_ENABLED=0 go_build "$1" controlplane "$(kubernetes_variables)" "k8s.io/kubernetes/cmd/$2"; }

build_containerd() {
    local module=github.com/containerd/containerd/v2 version
    version=$(cd "$REPO/hack/testbed/containerd" && go list -m -f '{{.Version}}' $module)
    CGO_ENABLED=0 go_build "$1" containerd "-X $module/version.Version=$version" \
        $module/cmd/containerd $module/cmd/ctr $module/cmd/containerd-shim-runc-v2
}

# runc needs cgo (its first stage is C) and is linked statically, so that it runs on any base.
build_runc() {
    (cd "$REPO/hack/testbed/runc" &&
        CGO_ENABLED=1 go build -mod=readonly -buildvcs=false -trimpath -tags "seccomp netgo osusergo urfave_cli_no_docs" \
            -ldflags "-s -w -extldflags -static" -o "$1/" github.com/opencontainers/runc)
}

build_coredns() { CGO_ENABLED=0 go_build "$1" coredns "" .; }

build_cni() {
    local module=github.com/containernetworking/plugins/plugins
    CGO_ENABLED=0 go_build "$1" cni "" \
        $module/main/bridge $module/main/loopback $module/ipam/host-local $module/meta/portmap $module/meta/bandwidth
}

build_hello() { CGO_ENABLED=0 go_build "$1" hello "" .; }
