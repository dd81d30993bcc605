#!/bin/sh
# Says in one line what to do when Go is missing or too old for go.mod.
# With a newer toolchain to fetch by itself (GOTOOLCHAIN=auto) Go answers here
# with the version that it will use.
need=1.26
where="get it from https://go.dev/dl/ (Debian's own package is older)"

if ! command -v go >/dev/null 2>&1; then
	echo "wakepoint: Go $need or newer is needed and no go is in PATH: $where" >&2
	exit 1
fi
have=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
if [ -z "$have" ]; then
	have=$(cd / && go env GOVERSION 2>/dev/null | sed 's/^go//')
fi
oldest=$(printf '%s\n%s\n' "$need" "${have:-0}" | sort -V | head -n 1)
if [ "$oldest" != "$need" ]; then
	echo "wakepoint: Go $need or newer is needed and go in PATH is ${have:-of no known version}: $where" >&2
	exit 1
fi
