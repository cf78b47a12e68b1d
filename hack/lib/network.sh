# The cluster's network: a bridge in a network namespace of its own, and a veth from it
# into each machine. The host's own network is not touched. The namespace has no name: a
# sleeping process holds it, and its end removes the bridge and every veth.
# shellcheck shell=bash

NODE_NET=10.77.0
GATEWAY=$NODE_NET.1
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16

# address_of NAME: the control plane has .10, node-N has .(10+N), the virtual machine .200.
address_of() {
    case $1 in
        control-plane) echo $NODE_NET.10 ;;
        node-*) echo $NODE_NET.$((10 + ${1#node-})) ;;
        vm) echo $NODE_NET.200 ;;
        *) die "no machine is called '$1'" ;;
    esac
}

network_process() { echo "$RUN/network.process"; }

in_network() { nsenter -t "$(live_process "$(network_process)")" -n "$@"; }

network_up() {
    live_process "$(network_process)" >/dev/null && return 0
    local holder
    setsid unshare --net sleep infinity </dev/null >/dev/null 2>&1 9>&- &
    holder=$!
    disown "$holder"
    wait_until 5 "network namespace" own_network "$holder"
    save_process "$(network_process)" "$holder"
    in_network ip link set lo up
    in_network ip link add br0 type bridge
    in_network ip address add $GATEWAY/24 dev br0
    in_network ip link set br0 up
    # Frames between machines are not this namespace's packets.
    in_network sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=0 || true
}

own_network() { [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

# network_attach PID NAME ADDRESS: eth0 of the machine whose first process is PID.
network_attach() {
    in_network ip link delete "$2" 2>/dev/null || true
    in_network ip link add "$2" type veth peer name eth0 netns "$1"
    in_network ip link set "$2" master br0 up
    nsenter -t "$1" -n ip address add "$3/24" dev eth0
    nsenter -t "$1" -n ip link set lo up
    nsenter -t "$1" -n ip link set eth0 up
    nsenter -t "$1" -n ip route add default via $GATEWAY
}

network_down() { end_process "$(network_process)"; }
