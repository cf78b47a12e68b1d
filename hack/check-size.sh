#!/usr/bin/env bash
# One concept a file: fails when a source file is longer than 400 lines.
set -euo pipefail
cd "$(dirname "$0")/.."

long=$(git ls-files --cached --others --exclude-standard -- '*.rs' '*.sh' '*.go' 'hack/*' |
    while read -r file; do
        [ -f "$file" ] || continue
        case "$file" in *go.sum) continue ;; esac
        lines=$(wc -l <"$file")
        if [ "$lines" -gt 400 ]; then echo "  $file: $lines lines"; fi
    done)
if [ -n "$long" ]; then
    printf 'files over 400 lines, split them by concept:\n%s\n' "$long" >&2
    exit 1
fi
