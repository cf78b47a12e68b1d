# A machine's cgroup: one in every hierarchy of the host (v1, hybrid), or one in the
# unified one (v2). In its own cgroup namespace the machine sees it as the root.
# shellcheck shell=bash

CGROUP_BASE=gantry-testbed/$CLUSTER

cgroup_version() {
    if [[ $(stat -fc %T /sys/fs/cgroup) == cgroup2fs ]]; then echo 2; else echo 1; fi
}

# The mount point of every hierarchy that a machine gets a cgroup in.
cgroup_hierarchies() {
    if (($(cgroup_version) == 2)); then
        echo /sys/fs/cgroup
    else
        awk '$3 ~ /^cgroup2?$/ && $2 ~ "^/sys/fs/cgroup/" { print $2 }' /proc/mounts
    fi
}

# cgroup_enter NAME: make the machine's cgroups and move the calling process into them.
cgroup_enter() {
    local mount
    for mount in $(cgroup_hierarchies); do
        cgroup_make "$mount" "$CGROUP_BASE/$1"
        echo 0 >"$mount/$CGROUP_BASE/$1/cgroup.procs"
    done
}

# cgroup_make MOUNT PATH: level by level, because a new cpuset is empty and a new v2
# cgroup has only the controllers that its parent hands down.
cgroup_make() {
    local current=$1 parent part
    for part in ${2//\// }; do
        parent=$current
        current=$parent/$part
        if [[ -f $parent/cgroup.subtree_control ]]; then
            sed 's/[a-z_][a-z_]*/+&/g' "$parent/cgroup.controllers" >"$parent/cgroup.subtree_control"
        fi
        mkdir -p "$current"
        if [[ -f $current/cpuset.mems && ! -f $current/cgroup.controllers ]]; then
            cat "$parent/cpuset.cpus" >"$current/cpuset.cpus"
            cat "$parent/cpuset.mems" >"$current/cpuset.mems"
        fi
    done
}

# cgroup_remove PATH: with everything below it, and every process that is still in it.
cgroup_remove() {
    local mount
    for mount in $(cgroup_hierarchies); do
        [[ -d $mount/$1 ]] || continue
        find "$mount/$1" -name cgroup.procs -exec cat {} + | xargs -r kill -KILL 2>/dev/null || true
        wait_until 20 "cgroup $mount/$1 removed" cgroup_rmdir "$mount/$1" || return 1
    done
}

cgroup_rmdir() {
    find "$1" -depth -type d -exec rmdir {} + 2>/dev/null
    [[ ! -d $1 ]]
}

# Shared by all clusters, so it goes with the last one.
cgroup_remove_if_empty() {
    local mount
    for mount in $(cgroup_hierarchies); do
        rmdir "$mount/$1" 2>/dev/null || true
    done
}
