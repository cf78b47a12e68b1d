# The cluster's network: a bridge in a network namespace of its own, and a veth from it
# into each machine. The host's own network is not touched. The namespace has no name: a
# sleeping process holds it, and its end removes the bridge and every veth.
# shellcheck shell=bash

# By address family.
NODE_NET=([4]=10.77.0. [6]=fd00:77::)
POD_CIDR=([4]=10.244.0.0/16 [6]=fd00:244::/56)
SERVICE_CIDR=([4]=10.96.0.0/16 [6]=fd00:96::/112)
PREFIX=([4]=24 [6]=64)
GATEWAY=${NODE_NET[4]}1

# The cluster's address families, the primary one first.
families() {
    case ${STACK-$(running_option stack)} in
        ipv4) echo 4 ;;
        ipv6) echo 6 ;;
        dual-ipv6) echo 6 4 ;;
        *) echo 4 6 ;;
    esac
}

# The first of them.
primary() {
    local all
    read -ra all <<<"$(families)"
    echo "${all[0]}"
}

family_of() { if [[ $1 == *:* ]]; then echo 6; else echo 4; fi; }

# comma_list ARRAY: its values for the cluster's families.
comma_list() {
    local -n values=$1
    local family list=
    for family in $(families); do list+=,${values[family]}; done
    echo "${list#,}"
}

# address_of NAME [FAMILY]: the control plane has .10, node-N has .(10+N), the virtual machine .200; ::10 and so on in IPv6.
address_of() {
    local net=${NODE_NET[${2:-$(primary)}]}
    case $1 in
        control-plane) echo "${net}10" ;;
        node-*) echo "$net$((10 + ${1#node-}))" ;;
        vm) echo "${NODE_NET[4]}200" ;;
        *) die "no machine is called '$1'" ;;
    esac
}

# in_url ADDRESS: as it is written before a port.
in_url() { if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi; }

# has_family NAME FAMILY: the virtual machine has IPv4 only.
has_family() { [[ " $(families) " == *" $2 "* && ($1 != vm || $2 == 4) ]]; }

# addresses_of NAME: all of them, as lists are written, the primary one first.
addresses_of() {
    local family list=
    for family in $(families); do
        ! has_family "$1" "$family" || list+=,$(address_of "$1" "$family")
    done
    echo "${list#,}"
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
    in_network ip address add "$GATEWAY/24" dev br0
    in_network ip address add "${NODE_NET[6]}1/64" dev br0 nodad
    in_network ip link set br0 up
    # Frames between machines are not this namespace's packets.
    in_network sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
        net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0 || true
}

own_network() { [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]; }

# network_attach PID NAME: eth0 of the machine whose first process is PID.
network_attach() {
    local family
    in_network ip link delete "$2" 2>/dev/null || true
    in_network ip link add "$2" type veth peer name eth0 netns "$1"
    in_network ip link set "$2" master br0 up
    nsenter -t "$1" -n ip link set lo up
    nsenter -t "$1" -n ip link set eth0 up
    for family in $(families); do
        # Nobody else has the address: it is of use at once.
        nsenter -t "$1" -n ip address add "$(address_of "$2" "$family")/${PREFIX[family]}" dev eth0 nodad
        nsenter -t "$1" -n ip route add default via "${NODE_NET[family]}1"
    done
}

network_down() { end_process "$(network_process)"; }
