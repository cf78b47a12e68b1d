# Paths, messages and timing that every script of the test bed shares.
#
# Inputs (environment):
#   GANTRY_CACHE    builds and downloads, kept by hack/down   [$HOME/.cache/gantry]
#   GANTRY_CLUSTER  name of the cluster; several can run side by side   [gantry]
# Everything a running cluster has on disk is below $RUN.
# shellcheck shell=bash

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${GANTRY_CACHE:-$HOME/.cache/gantry}
CLUSTER=${GANTRY_CLUSTER:-gantry}
RUN=$CACHE/run/$CLUSTER
export REPO CACHE CLUSTER RUN

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# step TEXT COMMAND...: run it and print one line with the time it took; its output
# goes to the log and is shown only when it fails.
step() {
    local text=$1 log start status=0
    shift
    mkdir -p "$CACHE/log"
    log=$(mktemp "$CACHE/log/step.XXXXXX")
    start=$(now_ms)
    printf '  %-58s' "$text ..." >&2
    # A subshell with its own -e: "|| status" would switch it off inside the function.
    set +e
    (
        set -e
        "$@"
    ) >"$log" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        printf '%7s s\n' "$(seconds_since "$start")" >&2
        rm -f "$log"
        return 0
    fi
    printf ' FAILED after %s s\n' "$(seconds_since "$start")" >&2
    tail -n 40 "$log" >&2
    die "$text (whole log: $log)"
}

now_ms() { date +%s%3N; }

seconds_since() {
    local ms=$(($(now_ms) - $1))
    printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}

# wait_until SECONDS WHAT COMMAND...: poll a condition, with a deadline.
wait_until() {
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { say "still not after the time allowed: $what"; return 1; }
        sleep 0.1
    done
}

require_root() {
    ((EUID == 0)) || die "this needs root: machines are made of namespaces, mounts and cgroups"
}

# One script at a time may change a cluster.
lock_cluster() {
    mkdir -p "$CACHE/lock"
    exec 9>"$CACHE/lock/cluster-$CLUSTER"
    flock -n 9 || { say "waiting for another hack/up or hack/down of cluster '$CLUSTER'"; flock 9; }
}
