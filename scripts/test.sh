#!/bin/sh
# Runs every test of the module once, and those of bench/, and sums them up with scripts/testsum.
#   RACE=1  runs the packages that stand it under the race detector
#   CI=true makes a skip that scripts/allowed-skips.txt does not allow a failure
#   SUMMARY=FILE  also writes the closing line to FILE
#
# Packages that freeze processes, or load the machine with them, run one at a
# time; the others side by side.
set -eu

module=$(go list -m)
alone="^$module/(internal/(sys|tracee|memory|engine|terminal|machine|keeper|vmtest)|cmd/|test/)"
all=$(go list ./...)
beside=$(echo "$all" | grep -Ev "$alone" || true)
alone=$(echo "$all" | grep -E "$alone" || true)

race=
if [ -n "${RACE:-}" ] && command -v "$(go env CC)" >/dev/null 2>&1; then
	race=-race
	export CGO_ENABLED=1 # the race detector needs it, the product does not
fi

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/testsum" ./scripts/testsum
set -- -allowed scripts/allowed-skips.txt
if [ "${CI:-}" = true ]; then
	set -- "$@" -strict
fi
if [ -n "${SUMMARY:-}" ]; then
	set -- "$@" -summary "$SUMMARY"
fi

# go test's own status is in its events.
{
	# shellcheck disable=SC2086 # lists of packages
	[ -z "$beside" ] || go test -json -count=1 -timeout 20m $race $beside 2>&1 || true
	# shellcheck disable=SC2086
	[ -z "$alone" ] || CGO_ENABLED=0 go test -json -count=1 -timeout 20m -p 1 $alone 2>&1 || true
	# A module of its own: that every engine still runs, not how fast.
	(cd bench && CGO_ENABLED=0 go test -json -count=1 -timeout 20m ./... 2>&1) || true
} | "$bin/testsum" "$@"
