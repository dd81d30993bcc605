#!/bin/bash
# Fuzzes every decoder of what comes from a disk, a file or another process, each
# for FUZZTIME: so long (60s), or so many inputs (20000x). What it finds is left in
# testdata/fuzz, and fails from then on.
set -eu
cd "$(dirname "$0")/.."
time=${FUZZTIME:-60s}

# Where inputs are counted nothing has a deadline, which go at times reports as a
# failure of the decoder ("context deadline exceeded"), and the count is not spent
# on making new inputs smaller.
case $time in
*x) smaller=10x ;;
*) smaller=60s ;;
esac

packages=$(grep -rlE --include='*_test.go' '^func Fuzz' cmd durable internal | xargs -n1 dirname | sort -u | sed 's|^|./|')
done=0 all=0
for package in $packages; do
	for target in $(grep -hoE '^func Fuzz[A-Za-z]+' "$package"/*_test.go | cut -d' ' -f2); do
		case "$package:${ONLY:-}" in
		./internal/procfs:stored | ./internal/abi:stored | ./cmd/wakepoint:stored) continue ;; # what the kernel says
		esac
		all=$((all + 1))
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime "$smaller" "$package" >build/fuzz.out 2>&1; then
			done=$((done + 1))
		else
			echo "$package $target:"
			cat build/fuzz.out
		fi
	done
done
rm -f build/fuzz.out
echo "fuzz: $done of $all decoders hold, $time each"
[ "$done" = "$all" ]
