# Builds that are made once: each product is a directory $CACHE/NAME-KEY, where KEY is a
# hash of what it is made from. It is built beside its place and renamed into it, so
# that an interrupted build leaves nothing half-made.
# shellcheck shell=bash

# hash_of FILE_OR_TEXT...: files by content, anything else by itself.
hash_of() {
    local item
    for item in "$@"; do
        if [[ -f $item ]]; then sha256sum <"$item"; else printf '%s\n' "$item"; fi
    done | sha256sum | cut -c1-16
}

# cached NAME KEY BUILDER [ARGUMENT...]: BUILDER fills the directory it is given as its
# first argument. Sets CACHED to the
# directory of the product.
cached() {
    local name=$1 key=$2 builder=$3
    shift 3
    CACHED=$CACHE/$name-$key
    [[ -d $CACHED ]] && return 0
    step "build $name" build_locked "$name" "$builder" "$@"
}

build_locked() {
    local name=$1 builder=$2 lock temp
    shift 2
    mkdir -p "$CACHE/lock"
    exec {lock}>"$CACHE/lock/build-$name"
    flock "$lock"
    [[ -d $CACHED ]] && return 0 # another script built it meanwhile
    temp=$CACHE/.tmp-$name
    rm -rf "$temp"
    mkdir -p "$temp"
    "$builder" "$temp" "$@"
    mv -T "$temp" "$CACHED"
}
