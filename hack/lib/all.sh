# Every part of the test bed, in the order of their layers.
# shellcheck shell=bash

for part in common install cache go images base layer process cgroups network machine \
    node-image control-plane node node-network vm-image vm vm-packets programs options host workloads; do
    # shellcheck source=/dev/null
    source "$(dirname "${BASH_SOURCE[0]}")/$part.sh"
done
unset part
