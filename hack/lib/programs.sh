# The programs under test, gantry's or the reference's.
# shellcheck shell=bash

# build_programs: sets $AGENT_PROGRAM, $PROXY_PROGRAM, $CNI_PROGRAM.
build_programs() {
    if [[ $AGENT == reference ]]; then
        cached kubelet "$(module_key controlplane kubelet)" build_reference kubelet
        AGENT_PROGRAM=$CACHED/kubelet
    fi
    if [[ $PROXY == reference ]]; then
        cached kube-proxy "$(module_key controlplane kube-proxy)" build_reference kube-proxy
        PROXY_PROGRAM=$CACHED/kube-proxy
    fi
    [[ $AGENT$PROXY$CNI_PLUGIN == *gantry* ]] || return 0
    local bin
    bin=$("$REPO/hack/build" --print-dir)
    step "build gantry-agent, gantry-proxy, gantry-cni" "$REPO/hack/build"
    [[ $AGENT != gantry ]] || AGENT_PROGRAM=$bin/gantry-agent
    [[ $PROXY != gantry ]] || PROXY_PROGRAM=$bin/gantry-proxy
    CNI_PROGRAM=$bin/gantry-cni
}
