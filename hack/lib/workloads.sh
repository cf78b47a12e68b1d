# What runs on a new cluster: CoreDNS (by kubeadm) and the example, and what hack/up says at the end.
# shellcheck shell=bash

EXAMPLE=$REPO/manifests/examples/hello.yaml

example_apply() { kubectl apply -f "$EXAMPLE"; }

deployments_available() {
    kubectl -n kube-system rollout status deployment/coredns --timeout=180s
    kubectl rollout status deployment/hello --timeout=180s
}

all_nodes_ready() {
    local node
    for node in "${NODES[@]}"; do node_ready "$node" || return 1; done
}

show_cluster() {
    local address port
    address=$(kubectl get service hello -o 'jsonpath={.spec.clusterIP}')
    port=$(kubectl get service hello -o 'jsonpath={.spec.ports[?(@.name=="http")].nodePort}')
    kubectl get nodes -o wide
    echo
    kubectl get pods -A -o wide
    cat <<TEXT

Try:
  hack/kubectl get pods -A -o wide
  hack/node node-1 curl -s $(in_url "$address")        # the Service; again for another pod; its NodePort: $(in_url "$(address_of node-1)"):$port
  hack/kubectl scale deployment hello --replicas=10
TEXT
}
