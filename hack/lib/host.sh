# What a kubelet changes on the host itself, because the kernel has only one of it.
# Noted before the first cluster starts, put back when the last one is gone.
# shellcheck shell=bash

HOST_SYSCTLS=(vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops
    kernel/keys/root_maxkeys kernel/keys/root_maxbytes fs/inotify/max_user_instances)

# systemd, containerd and the reference agent take a hundred inotify instances for a few machines, and a containerd
# that gets none starts without its CRI service. The kernel's default for all of root's processes is 128.
INOTIFY_INSTANCES=4096

note_host_sysctls() {
    local file=$CACHE/run/.host-sysctls name
    [[ ! -f $file ]] || return 0
    mkdir -p "$CACHE/run"
    for name in "${HOST_SYSCTLS[@]}"; do
        printf '%s %s\n' "$name" "$(<"/proc/sys/$name")"
    done >"$file"
    (($(<"/proc/sys/fs/inotify/max_user_instances") >= INOTIFY_INSTANCES)) ||
        echo $INOTIFY_INSTANCES >/proc/sys/fs/inotify/max_user_instances
}

restore_host_sysctls() {
    local file=$CACHE/run/.host-sysctls name value
    [[ -f $file && -z $(ls "$CACHE/run") ]] || return 0
    while read -r name value; do echo "$value" >"/proc/sys/$name"; done <"$file"
    rm "$file"
    rmdir "$CACHE/run"
}

# The last of a cluster, once its machines are gone.
remove_cluster_files() {
    cgroup_remove "$CGROUP_BASE"
    cgroup_remove_if_empty "$(dirname "$CGROUP_BASE")"
    rm -rf "$RUN"
    restore_host_sysctls
}
