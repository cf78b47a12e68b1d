# A node: containerd, the agent under kubeadm's own unit, and a real "kubeadm join".
# shellcheck shell=bash

# node_boot NAME: a machine with containerd running and the images in it.
node_boot() {
    local name=$1
    machine_boot "$name" "$(address_of "$name")"
    containerd_config "$(($(cgroup_version) == 2))" | machine_write "$name" /etc/containerd/config.toml
    machine_run "$name" systemctl enable --now containerd
    if [[ ! -f $(machine_dir "$name")/images-$(basename "$IMAGES") ]]; then
        machine_run "$name" ctr -n k8s.io images import /usr/share/gantry/images.tar
        touch "$(machine_dir "$name")/images-$(basename "$IMAGES")"
    fi
}

# containerd_config SYSTEMD: 1 when systemd makes the pods' cgroups (cgroup v2).
containerd_config() {
    cat <<TOML
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '${PAUSE_NAMES[0]}'
[plugins.'io.containerd.cri.v1.runtime']
# Without CAP_SYS_RESOURCE nobody may lower oom_score_adj.
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = $( (($1)) && echo true || echo false)
TOML
}

# node_agent NAME: the agent's program; a running agent is restarted when it changed.
node_agent() {
    machine_install "$1" "$AGENT_PROGRAM" /usr/bin/kubelet || return 0
    machine_run "$1" systemctl enable kubelet
    machine_run "$1" systemctl try-restart kubelet
}

node_joined() { [[ -s /proc/$(machine_pid "$1")/root/etc/kubernetes/kubelet.conf ]] && kubectl get node "$1"; }

node_join() {
    local name=$1 ignore=()
    node_joined "$name" && return 0
    (($(cgroup_version) == 2)) || ignore=(--ignore-preflight-errors=SystemVerification)
    machine_run "$name" kubeadm join "$(address_of control-plane):6443" --token "$(<"$RUN/token")" \
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
