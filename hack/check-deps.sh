#!/usr/bin/env bash
# The core crates decide and do nothing else: fails when one of them can reach a crate that does IO, holds a clock or
# talks to something.
set -euo pipefail
cd "$(dirname "$0")/.."

banned='^(tokio|futures|kube|kube-.*|tonic|hyper|rustix|nix|mio|socket2|inotify|procfs|zbus|netlink-.*|rtnetlink|tracing|rand)$'
status=0
for crate in gantry-agent-core gantry-proxy-core gantry-policy-core; do
    # A dev-dependency may be anything: only what is linked counts.
    found=$(cargo tree --quiet --package "$crate" --edges normal --prefix none --format '{p}' |
        cut -d' ' -f1 | sort -u | grep -E "$banned" || true)
    if [ -n "$found" ]; then
        echo "$crate must not depend on: $(echo "$found" | tr '\n' ' ')" >&2
        echo "  see: cargo tree --package $crate --edges normal --invert $(echo "$found" | head -n1)" >&2
        status=1
    fi
done
exit $status
