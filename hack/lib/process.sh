# Long-lived processes of a cluster, known by a file with their id and start time: an
# id alone may have been given to another process since.
# shellcheck shell=bash

start_time_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# save_process FILE PID
save_process() { printf '%s %s\n' "$2" "$(start_time_of "$2")" >"$1"; }

# live_process FILE: prints the id if that very process still runs.
live_process() {
    local pid started
    [[ -f $1 ]] && read -r pid started <"$1" || return 1
    [[ -n $started && $(start_time_of "$pid") == "$started" ]] || return 1
    # A zombie has a start time, too, but no namespaces to enter.
    [[ -e /proc/$pid/root/. ]] || return 1
    printf '%s\n' "$pid"
}

# end_process FILE: kill it and wait until it is gone.
end_process() {
    local pid
    if pid=$(live_process "$1"); then
        kill -KILL "$pid"
        wait_until 20 "process $pid of $1 ended" process_gone "$1"
    fi
    rm -f "$1"
}

process_gone() { ! live_process "$1"; }
