# The control plane: etcd, API server, controller manager and scheduler as units of the
# machine "control-plane", with certificates, tokens and add-ons by kubeadm.
# shellcheck shell=bash

on_control_plane() { machine_run control-plane "$@"; }

# kubectl with the host's files, in the control plane's network.
kubectl() {
    local pid
    pid=$(machine_pid control-plane) || { say "no cluster '$CLUSTER' is up: hack/up starts one"; return 125; }
    KUBECONFIG=/proc/$pid/root/etc/kubernetes/admin.conf nsenter -t "$pid" -n "/proc/$pid/root/usr/bin/kubectl" "$@" 9>&-
}

api_ready() { kubectl get --raw /readyz; }

control_plane_up() {
    machine_boot control-plane
    # The API server calls webhooks through ClusterIPs: a node's proxy translates them.
    local family
    for family in $(families); do
        on_control_plane ip route replace "${SERVICE_CIDR[family]}" via "$(address_of node-1 "$family")"
    done
    if [[ ! -s $RUN/token ]]; then
        printf '%s.%s\n' "$(random_hex 3)" "$(random_hex 8)" >"$RUN/token"
    fi
    kubeadm_config | machine_write control-plane /etc/kubernetes/kubeadm.yaml
    printf '%s\n' "ADDRESS=$(address_of control-plane)" "POD_CIDR=$(comma_list POD_CIDR)" \
        "SERVICE_CIDR=$(comma_list SERVICE_CIDR)" |
        machine_write control-plane /etc/default/control-plane
    on_control_plane kubeadm init phase certs all --config /etc/kubernetes/kubeadm.yaml
    on_control_plane kubeadm init phase kubeconfig all --config /etc/kubernetes/kubeadm.yaml
    on_control_plane systemctl enable --now etcd kube-apiserver
    on_control_plane systemctl enable --now --no-block kube-controller-manager kube-scheduler
    wait_until 120 "API server ready" on_control_plane kubectl --kubeconfig /etc/kubernetes/super-admin.conf get --raw /readyz
}

random_hex() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }

# What "kubeadm join" finds in the cluster: configuration, token, permissions.
control_plane_configure() {
    local phase config=/etc/kubernetes/kubeadm.yaml
    [[ ! -f $RUN/kubeconfig ]] || return 0
    on_control_plane kubectl --kubeconfig /etc/kubernetes/super-admin.conf create clusterrolebinding \
        kubeadm:cluster-admins --clusterrole=cluster-admin --group=kubeadm:cluster-admins ||
        kubectl get clusterrolebinding kubeadm:cluster-admins
    for phase in "upload-config all" "bootstrap-token" "addon coredns"; do
        # shellcheck disable=SC2086 # two words: phase and sub-phase
        on_control_plane kubeadm init phase $phase --config $config
    done
    proxy_account
    cp "/proc/$(machine_pid control-plane)/root/etc/kubernetes/admin.conf" "$RUN/kubeconfig.new"
    mv "$RUN/kubeconfig.new" "$RUN/kubeconfig"
}

# The account that kubeadm's own kube-proxy add-on would have, and what network policies take beside it.
proxy_account() {
    kubectl apply -f - <<'YAML'
apiVersion: v1
kind: ServiceAccount
metadata: {name: kube-proxy, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubeadm:node-proxier}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-proxier}
subjects: [{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "gantry:network-policies"}
rules:
  - {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [list, watch]}
  - {apiGroups: [""], resources: [namespaces, pods], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "gantry:network-policies"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "gantry:network-policies"}
subjects: [{kind: ServiceAccount, name: kube-proxy, namespace: kube-system}]
YAML
}

kubeadm_config() {
    cat <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $(<"$RUN/token"), ttl: 0s}]
localAPIEndpoint: {advertiseAddress: "$(address_of control-plane)", bindPort: 6443}
nodeRegistration: {name: control-plane, criSocket: unix:///run/containerd/containerd.sock}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: gantry
kubernetesVersion: $KUBERNETES_VERSION
controlPlaneEndpoint: "$(in_url "$(address_of control-plane)"):6443"
encryptionAlgorithm: ECDSA-P256
networking: {podSubnet: "$(comma_list POD_CIDR)", serviceSubnet: "$(comma_list SERVICE_CIDR)"}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# The host may have cgroup v1 and no CAP_SYS_RESOURCE.
failCgroupV1: false
oomScoreAdj: 0
# How full the host's disk is says nothing about the cluster: no eviction and no image is deleted for it.
evictionHard: {nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
YAML
}
