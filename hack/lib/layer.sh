# The layer between the base and a machine's own files: the programs and units of the
# test bed (containerd, runc, CNI plugins, kubeadm, the control plane, kubeadm's own
# kubelet unit, the images).
# shellcheck shell=bash

# build_parts: everything a machine is made of. Sets BASE, LAYER and a variable for each part.
build_parts() {
    cached base "$(base_key)" build_base
    BASE=$CACHED
    cached controlplane "$(module_key controlplane)" build_controlplane
    CONTROLPLANE=$CACHED
    cached containerd "$(module_key containerd)" build_containerd
    CONTAINERD=$CACHED
    cached runc "$(module_key runc)" build_runc
    RUNC=$CACHED
    cached cni "$(module_key cni)" build_cni
    CNI=$CACHED
    cached coredns "$(module_key coredns)" build_coredns
    cached images "$(images_key)" build_images "$CACHED"
    IMAGES=$CACHED
    cached layer "$(layer_key)" build_layer
    LAYER=$CACHED
}

layer_key() {
    hash_of "$REPO/hack/lib/layer.sh" "$REPO"/hack/testbed/machine/* \
        "$CONTROLPLANE" "$CONTAINERD" "$RUNC" "$CNI" "$IMAGES"
}

# build_layer OUT: uses the products that build_parts found. Hard links: the layer costs no space.
build_layer() {
    local out=$1 name
    mkdir -p "$out"/usr/bin "$out"/usr/local/{bin,sbin} "$out"/opt/cni/bin "$out"/etc/{cni/net.d,containerd} \
        "$out"/etc/systemd/system/{kubelet.service.d,multi-user.target.wants} "$out"/usr/share/gantry "$out"/etc/kubernetes/manifests
    ln "$CONTROLPLANE/controlplane" "$out/usr/bin/controlplane"
    for name in kubectl kubeadm etcd kube-apiserver kube-controller-manager kube-scheduler; do
        ln -s controlplane "$out/usr/bin/$name"
    done
    ln "$CONTAINERD"/* "$out/usr/local/bin/"
    ln "$RUNC/runc" "$out/usr/local/sbin/runc"
    ln "$CNI"/* "$out/opt/cni/bin/"
    ln "$IMAGES/images.tar" "$out/usr/share/gantry/images.tar"
    cp "$REPO"/hack/testbed/machine/*.service "$out/etc/systemd/system/"
    cp "$REPO/hack/testbed/machine/10-kubeadm.conf" "$out/etc/systemd/system/kubelet.service.d/"
}
