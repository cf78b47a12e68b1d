# hack/up's options, and those that the running cluster was started with ($RUN/options).
# shellcheck shell=bash

# parse_options ARGUMENT...: sets NODES, AGENT, PROXY, CNI_PLUGIN and STACK.
parse_options() {
    local count=2 option value n
    AGENT=gantry PROXY=gantry CNI_PLUGIN=gantry STACK=dual
    while (($#)); do
        option=$1
        case $option in
            --*=*) value=${option#*=} option=${option%%=*} && shift ;;
            -h | --help) usage && exit 0 ;;
            *) value=${2-} && shift $(($# > 1 ? 2 : 1)) ;;
        esac
        case $option in
            --nodes) count=$value ;;
            --agent) AGENT=$value ;;
            --proxy) PROXY=$value ;;
            --cni) CNI_PLUGIN=$value ;;
            --stack) STACK=$value ;;
            *) usage >&2 && die "unknown option: $option" ;;
        esac
    done
    [[ $count =~ ^[1-9][0-9]?$ ]] || die "--nodes: a number from 1 to 99, not '$count'"
    for value in "agent:$AGENT" "proxy:$PROXY" "cni:$CNI_PLUGIN"; do
        [[ $value =~ :(gantry|reference)$ ]] || die "--${value%%:*}: gantry or reference, not '${value#*:}'"
    done
    [[ $STACK =~ ^(dual|dual-ipv6|ipv4|ipv6)$ ]] || die "--stack: dual, dual-ipv6, ipv4 or ipv6, not '$STACK'"
    NODES=()
    for ((n = 1; n <= count; n++)); do NODES+=("node-$n"); done
}

# by_daemon: services and the pods' network are gantry's, both by its DaemonSet; CLUSTER_DAEMON speaks for a machine that joins later.
by_daemon() { [[ ${CLUSTER_DAEMON-$PROXY$CNI_PLUGIN} == gantrygantry ]]; }

# What hack/up was last told, with $1 (agent, proxy, cni, stack or nodes) as the name.
running_option() { sed -n "s/^$1=//p" "$RUN/options"; }

# What cannot be changed under running pods is refused; agent and proxy are replaced.
check_running_options() {
    [[ -f $RUN/options ]] || return 0
    [[ $(running_option cni) == "$CNI_PLUGIN" ]] ||
        die "the running cluster has --cni $(running_option cni): pods keep the network they were born with, so run hack/down first"
    [[ $(running_option stack) == "$STACK" ]] ||
        die "the running cluster has --stack $(running_option stack): its services and pods keep their addresses, so run hack/down first"
    (($(running_option nodes) <= ${#NODES[@]})) || die "the running cluster has $(running_option nodes) nodes: run hack/down first"
}

save_options() {
    printf '%s\n' "nodes=${#NODES[@]}" "agent=$AGENT" "proxy=$PROXY" "cni=$CNI_PLUGIN" "stack=$STACK" >"$RUN/options"
}
