#!/bin/bash
# Fuzzes every decoder of what comes from a disk, a file or another process, for
# FUZZTIME each. What it finds is left in testdata/fuzz, and fails from then on.
set -eu
cd "$(dirname "$0")/.."
time=${FUZZTIME:-60s}

done=0 all=0
for package in ./internal/seal ./internal/store ./internal/files ./internal/bundle ./internal/image ./internal/api ./internal/notify ./internal/screen ./internal/terminal ./internal/procfs ./internal/abi ./cmd/wakepoint; do
	for target in $(grep -hoE '^func Fuzz[A-Za-z]+' "$package"/*_test.go | cut -d' ' -f2); do
		case "$package:${ONLY:-}" in
		./internal/procfs:stored | ./internal/abi:stored | ./cmd/wakepoint:stored) continue ;; # what the kernel says
		esac
		all=$((all + 1))
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" >build/fuzz.out 2>&1; then
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
