# The programs under test, gantry's or the reference's.
# shellcheck shell=bash

# build_programs: sets $AGENT_PROGRAM, $PROXY_PROGRAM, $CNI_PROGRAM; where the daemon has both of the latter, $DAEMON_IMAGE and
# $DAEMON_TAG, which differ for other programs. $CLEANER removes what a proxy of gantry's left.
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
    local bin=${GANTRY_BIN-}
    if [[ -z $bin ]]; then
        bin=$("$REPO/hack/build" --print-dir)
        step "build gantry-agent, gantry-proxy, gantry-cni" "$REPO/hack/build"
    fi
    [[ $AGENT != gantry ]] || AGENT_PROGRAM=$bin/gantry-agent
    [[ $PROXY != gantry ]] || PROXY_PROGRAM=$bin/gantry-proxy
    CNI_PROGRAM=$bin/gantry-cni
    CLEANER=$bin/gantry-proxy
    by_daemon || return 0
    node_image "$CLEANER" "$CNI_PROGRAM" build
    DAEMON_IMAGE=$CACHED/image.tar DAEMON_TAG=$TAG
}

# musl_target: where the plugin is built for, if the toolchain has it. The plugin is a process for each call, and half of its
# processor time is the start of the GNU C library: it asks CPUID some fifty times, which a virtual machine pays for with an
# exit each. The daemons keep that library for its allocator.
musl_target() {
    local musl
    musl=$(rustc -vV | sed -n 's/^host: \(.*\)-gnu$/\1-musl/p')
    [[ -n $musl && -d $(rustc --print target-libdir --target "$musl") ]] && echo "$musl"
}

# claim_target: what cargo builds is below $CACHE/target for every checkout, so that a fresh one finds the compiled
# dependencies. Cargo tells our own crates of two checkouts apart by file times only, which says nothing here: they are
# removed when another checkout built last.
claim_target() {
    export CARGO_TARGET_DIR=$CACHE/target
    [[ $(cat "$CARGO_TARGET_DIR/checkout" 2>/dev/null) == "$REPO" ]] && return 0
    local packages host musl manifest=$REPO/Cargo.toml
    mapfile -t packages < <(cargo metadata --manifest-path "$manifest" --no-deps --locked --format-version 1 | jq -r '.packages[].name')
    host=$(rustc -vV | sed -n 's/^host: //p')
    cargo clean --manifest-path "$manifest" --locked "${packages[@]/#/--package=}"
    cargo clean --manifest-path "$manifest" --locked --release --target "$host" "${packages[@]/#/--package=}"
    musl=$(musl_target) &&
        cargo clean --manifest-path "$manifest" --locked --release --target "$musl" "${packages[@]/#/--package=}"
    mkdir -p "$CARGO_TARGET_DIR"
    echo "$REPO" >"$CARGO_TARGET_DIR/checkout"
}
