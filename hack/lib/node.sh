# A node: containerd, the agent under kubeadm's own unit, and a real "kubeadm join".
# shellcheck shell=bash

# node_boot NAME: a machine with containerd running and the images in it.
node_boot() {
    machine_boot "$1"
    node_runtime "$1"
}

node_runtime() {
    local imported
    imported=/var/lib/containerd/imported-$(basename "$IMAGES")
    containerd_config "$1" | machine_write "$1" /etc/containerd/config.toml
    machine_run "$1" systemctl enable --now containerd
    if ! machine_run "$1" test -f "$imported"; then
        machine_run "$1" ctr -n k8s.io images import /usr/share/gantry/images.tar
        machine_run "$1" touch "$imported"
    fi
    ! by_daemon || node_import "$1" "$DAEMON_IMAGE" "docker.io/$NODE_IMAGE:$DAEMON_TAG"
}

# node_import NAME ARCHIVE IMAGE: unless it is there.
node_import() {
    machine_run "$1" ctr -n k8s.io images ls -q "name==$3" | grep -q . && return 0
    if [[ $1 == vm ]]; then
        vm_receive "$2" /var/tmp/image.tar
        machine_run "$1" ctr -n k8s.io images import /var/tmp/image.tar
        machine_run "$1" rm /var/tmp/image.tar
    else
        machine_run "$1" ctr -n k8s.io images import - <"$2"
    fi
}

node_cgroup_version() { if [[ $1 == vm ]]; then echo 2; else cgroup_version; fi; }

# containerd_config NAME: with cgroup v2, systemd makes the pods' cgroups.
containerd_config() {
    cat <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '${PAUSE_NAMES[0]}'
[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE nobody may lower oom_score_adj.
restrict_oom_score_adj = $([[ $1 == vm ]] && echo false || echo true)
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = $( (($(node_cgroup_version "$1") == 2)) && echo true || echo false)
TOML
}

# node_agent NAME: the agent's program; a running agent is restarted when it changed.
node_agent() {
    local addresses
    addresses=$(addresses_of "$1")
    # Left to itself, an agent takes an address of one family.
    [[ $addresses != *,* ]] || echo "KUBELET_EXTRA_ARGS=--node-ip=$addresses" | machine_write "$1" /etc/default/kubelet
    machine_install "$1" "$AGENT_PROGRAM" /usr/bin/kubelet || return 0
    machine_run "$1" systemctl enable kubelet
    machine_run "$1" systemctl try-restart kubelet
}

node_joined() { machine_run "$1" test -s /etc/kubernetes/kubelet.conf && kubectl get node "$1"; }

node_join() {
    local name=$1 ignore=()
    node_joined "$name" && return 0
    # A machine has neither its own kernel nor that kernel's configuration to verify.
    [[ $name == vm ]] || ignore=(--ignore-preflight-errors=SystemVerification)
    machine_run "$name" kubeadm join "$(in_url "$(address_of control-plane)"):6443" --token "$(<"$RUN/token")" \
        --discovery-token-ca-cert-hash "sha256:$(ca_hash)" "${ignore[@]}"
}

ca_hash() {
    openssl x509 -pubkey -noout -in "/proc/$(machine_pid control-plane)/root/etc/kubernetes/pki/ca.crt" |
        openssl pkey -pubin -outform der | sha256sum | cut -d' ' -f1
}

node_ready() { [[ $(kubectl get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]; }

# each_of FUNCTION NAME...: for all names at once; fails when one fails.
each_of() {
    local function=$1 name pid pids=() failed=0
    shift
    for name in "$@"; do
        ("$function" "$name") &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}
