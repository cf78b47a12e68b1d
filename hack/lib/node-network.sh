# A node's services and pod network. Where both are gantry's they come from its DaemonSet, as users install it. Else the
# proxy is a unit, and what gantry's daemon does for itself is done here: the CNI plugin, its configuration, routes.
# shellcheck shell=bash

# pod_cidrs_of NAME: one for each family, separated by blanks.
pod_cidrs_of() { kubectl get node "$1" -o 'jsonpath={.spec.podCIDRs[*]}'; }

has_pod_cidrs() { [[ -n $(pod_cidrs_of "$1") ]]; }

# node_network NAME: after the join, because the pod range comes with the Node object.
node_network() {
    local name=$1 cidr family
    wait_until 30 "pod ranges of $name" has_pod_cidrs "$name"
    if by_daemon; then
        proxy_remove "$name" kube-proxy
    else
        node_cni "$name"
        node_proxy "$name"
    fi
    if [[ $PROXY != gantry ]]; then
        node_routes "$name"
    fi
    for cidr in $(pod_cidrs_of "$name"); do
        family=$(family_of "$cidr")
        has_family "$name" "$family" || continue
        on_control_plane ip route replace "$cidr" via "$(address_of "$name" "$family")"
        in_network ip route replace "$cidr" via "$(address_of "$name" "$family")"
    done
}

node_cni() {
    local name=$1
    if [[ $CNI_PLUGIN == gantry ]]; then
        machine_install "$name" "$CNI_PROGRAM" /opt/cni/bin/gantry-cni || true
        machine_install "$name" "$CNI_PROGRAM" /opt/cni/bin/loopback || true
        [[ $PROXY == gantry ]] || gantry_conflist "$name" | machine_write "$name" /etc/cni/net.d/10-gantry.conflist
    else
        reference_conflist "$name" | machine_write "$name" /etc/cni/net.d/10-reference.conflist
    fi
}

# conflist NAME FILTER: a network configuration by a filter that has the node's ranges as $ranges and $routes.
conflist() {
    local cidrs
    read -ra cidrs <<<"$(pod_cidrs_of "$1")"
    jq -n --arg pods "$(comma_list POD_CIDR)" '
        [$ARGS.positional[] | [{subnet: .}]] as $ranges
        | [$ARGS.positional[] | {dst: (if contains(":") then "::/0" else "0.0.0.0/0" end)}] as $routes
        | '"$2" --args "${cidrs[@]}"
}

# As gantry-proxy writes it, but that the plugin masquerades by itself.
gantry_conflist() {
    conflist "$1" '{cniVersion: "1.0.0", name: "gantry", plugins: [
        {type: "gantry-cni", bridge: "cni0", isGateway: true, hairpinMode: true, ipMasq: true, clusterCIDRs: ($pods | split(",")),
         capabilities: {bandwidth: true, portMappings: true}, ipam: {type: "host-local", ranges: $ranges, routes: $routes}}]}'
}

reference_conflist() {
    conflist "$1" '{cniVersion: "1.0.0", name: "reference", plugins: [
        {type: "bridge", bridge: "cni0", isGateway: true, hairpinMode: true, ipMasq: false,
         ipam: {type: "host-local", ranges: $ranges, routes: $routes}},
        {type: "portmap", capabilities: {portMappings: true}},
        {type: "bandwidth", capabilities: {bandwidth: true}}]}'
}

# The routes to the other nodes' pods.
node_routes() {
    local other cidr family
    for other in "${NODES[@]}"; do
        [[ $other != "$1" ]] || continue
        for cidr in $(pod_cidrs_of "$other"); do
            family=$(family_of "$cidr")
            has_family "$1" "$family" && has_family "$other" "$family" || continue
            machine_run "$1" ip route replace "$cidr" via "$(address_of "$other" "$family")"
        done
    done
}

# node_proxy NAME: the chosen proxy as a unit; the other one, if it was there, is removed.
node_proxy() {
    local name=$1 program args='' other
    if [[ $PROXY == gantry ]]; then program=gantry-proxy other=kube-proxy; else program=kube-proxy other=gantry-proxy; fi
    [[ $PROXY$CNI_PLUGIN != gantrygantry ]] || args='--cni-conf-dir=/etc/cni/net.d'
    proxy_remove "$name" "$other"
    proxy_files "$name"
    echo "PROXY_ARGS=$args" | machine_write "$name" /etc/default/proxy
    if machine_install "$name" "$PROXY_PROGRAM" "/usr/bin/$program"; then
        machine_run "$name" systemctl enable "$program"
        machine_run "$name" systemctl restart "$program"
    else
        machine_run "$name" systemctl start "$program"
    fi
    node_serves "$name"
}

node_serves() {
    wait_until 120 "the proxy of $1 programs services" machine_run "$1" curl -sf -o /dev/null http://127.0.0.1:10256/healthz
}

# services_up: the proxy of all nodes, by whichever way.
services_up() {
    by_daemon || daemon_remove
    each_of node_network "${NODES[@]}"
    ! by_daemon || daemon_apply
}

# daemon_apply: what users apply, with the name of the image that was built.
daemon_apply() {
    sed "s|image: $NODE_IMAGE:.*|image: $NODE_IMAGE:$DAEMON_TAG|" "$INSTALL" | kubectl apply -f -
    each_of node_serves "${NODES[@]}"
    kubectl -n kube-system rollout status daemonset/gantry --timeout=180s
}

# daemon_remove: for another proxy; pods keep their network.
daemon_remove() {
    kubectl -n kube-system get daemonset gantry || return 0
    kubectl delete -f "$INSTALL"
    kubectl -n kube-system wait --for=delete pod -l app.kubernetes.io/name=gantry --timeout=60s
    each_of daemon_clean "${NODES[@]}"
}

daemon_clean() {
    machine_install "$1" "$CLEANER" /usr/bin/gantry-proxy || true
    machine_run "$1" /usr/bin/gantry-proxy --cleanup
    machine_run "$1" rm -f /usr/bin/gantry-proxy
}

proxy_remove() {
    machine_run "$1" systemctl is-active --quiet "$2" || return 0
    machine_run "$1" systemctl disable --now "$2"
    machine_run "$1" "/usr/bin/$2" --config=/var/lib/kube-proxy/config.conf --cleanup
    machine_run "$1" rm -f "/usr/bin/$2"
}

proxy_files() {
    local name=$1 config=/var/lib/kube-proxy
    machine_run "$name" test -s $config/kubeconfig.conf && return 0
    machine_write "$name" $config/config.conf <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $config/kubeconfig.conf}
clusterCIDR: "$(comma_list POD_CIDR)"
mode: nftables
# Prometheus scrapes from outside of the node; the default is the node's own 127.0.0.1.
metricsBindAddress: 0.0.0.0:10249
# The host's connection tracking limits are not the test bed's to change.
conntrack: {maxPerCore: 0}
YAML
    proxy_kubeconfig | machine_write "$name" $config/kubeconfig.conf
}

proxy_kubeconfig() {
    local authority token
    authority=$(base64 -w0 "/proc/$(machine_pid control-plane)/root/etc/kubernetes/pki/ca.crt")
    token=$(kubectl -n kube-system create token kube-proxy --duration=8760h)
    cat <<YAML
apiVersion: v1
kind: Config
clusters: [{name: default, cluster: {server: "https://$(in_url "$(address_of control-plane)"):6443", certificate-authority-data: $authority}}]
users: [{name: default, user: {token: $token}}]
contexts: [{name: default, context: {cluster: default, user: default, namespace: default}}]
current-context: default
YAML
}
