# Machines: Debian with systemd in namespaces of its own, on an overlay over the base and
# the layer. Killing a machine's first process ends everything in it.
#
# $RUN/machines/NAME/
#   process               first process (see process.sh)
#   upper work root       the overlay
#   containerd kubelet    bind-mounted to /var/lib of the machine
#   console.log           what was said before journald started
# shellcheck shell=bash

MACHINE_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

machine_dir() { echo "$RUN/machines/$1"; }
machine_pid() { live_process "$(machine_dir "$1")/process"; }
machine_names() { [[ ! -d $RUN/machines ]] || ls "$RUN/machines"; }

# machine_boot NAME: make it if it is new, start it if it does not run.
machine_boot() {
    local name=$1 dir
    dir=$(machine_dir "$name")
    machine_pid "$name" >/dev/null && return 0
    mkdir -p "$dir"/{work,root,containerd,kubelet,upper/etc}
    machine_identity "$name" "$(address_of "$name")" "$dir/upper/etc"
    machine_start "$name" "$dir"
    network_attach "$(machine_pid "$name")" "$name"
    wait_until 30 "systemd of $name answers" machine_answers "$name"
}

machine_answers() { [[ $(machine_run "$1" systemctl is-system-running) =~ running|degraded ]]; }

machine_identity() {
    local name=$1 address=$2 etc=$3
    echo "$CLUSTER/$name" >"$etc/gantry-machine"
    echo "$name" >"$etc/hostname"
    [[ -s $etc/machine-id ]] || tr -d - </proc/sys/kernel/random/uuid >"$etc/machine-id"
    printf '127.0.0.1 localhost\n%s %s\n%s control-plane\n' "$address" "$name" "$(address_of control-plane)" >"$etc/hosts"
    # Nobody answers there, and says so at once: names outside the cluster fail fast.
    echo "nameserver ${NODE_NET[$(primary)]}1" >"$etc/resolv.conf"
}

machine_start() {
    local name=$1 dir=$2 launcher
    rm -rf "$dir/work"/*
    setsid unshare --mount --uts --net --ipc --pid --fork --kill-child \
        "$REPO/hack/lib/machine-init.sh" "$name" "$dir" "$LAYER:$BASE" </dev/null >"$dir/console.log" 2>&1 9>&- &
    launcher=$!
    wait_until 10 "first process of $name" child_of "$launcher" ||
        { cat "$dir/console.log" >&2; return 1; }
    save_process "$dir/process" "$(child_of "$launcher")"
    disown "$launcher"
    wait_until 10 "root of $name" test -f "/proc/$(child_of "$launcher")/root/etc/gantry-machine" ||
        { cat "$dir/console.log" >&2; return 1; }
}

# child_of LAUNCHER: the id of unshare's child, once it is there.
child_of() {
    local children
    [[ $(<"/proc/$1/comm") == unshare ]] || return 1
    children=$(<"/proc/$1/task/$1/children")
    [[ -n $children ]] && echo "${children%% *}"
}

# machine_run NAME COMMAND...: in the machine; keeps input, output and exit code.
machine_run() {
    local name=$1 pid
    shift
    set -- env -i PATH=$MACHINE_PATH HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" KUBECONFIG=/etc/kubernetes/admin.conf "$@"
    if [[ $name == vm ]]; then
        vm_run "$@"
        return
    fi
    pid=$(machine_pid "$name") || { say "machine '$name' does not run"; return 125; }
    nsenter -t "$pid" -a "$@" 9>&-
}

# machine_write NAME PATH: the file's content comes from standard input.
machine_write() {
    # shellcheck disable=SC2016 # expanded in the machine
    machine_run "$1" sh -c 'mkdir -p "${0%/*}" && cat >"$0.new" && mv "$0.new" "$0"' "$2"
}

# machine_install NAME FILE PATH: put a program there; says by its exit code whether it
# differs from what was there. By rename, because the old one may be running.
machine_install() {
    local sum
    sum=$(sha256sum <"$2")
    [[ $(machine_run "$1" sh -c "sha256sum <$3" 2>/dev/null) != "$sum" ]] || return 1
    if [[ $1 == vm ]]; then
        vm_receive "$2" "$3"
        return 0
    fi
    # shellcheck disable=SC2016
    machine_run "$1" sh -c 'cat >"$0.new" && chmod 755 "$0.new" && mv "$0.new" "$0"' "$3" <"$2"
}

machine_remove() {
    end_process "$(machine_dir "$1")/process"
    cgroup_remove "$CGROUP_BASE/$1"
    rm -rf "$(machine_dir "$1")"
}
