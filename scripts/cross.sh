#!/bin/sh
# Builds for other systems what promises to build there.
set -eu
for os in darwin windows freebsd; do
	for room in durable internal/abi internal/policy; do
		[ -d "$room" ] || continue # a room that is not made yet
		echo "GOOS=$os go build ./$room/..."
		GOOS=$os go build "./$room/..."
	done
done
