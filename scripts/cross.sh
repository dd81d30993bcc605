#!/bin/sh
# Builds for other systems what promises to build there.
set -eu
for os in darwin windows freebsd js; do
	for room in durable internal/abi internal/policy; do
		[ -d "$room" ] || continue # a room that is not made yet
		arch=amd64
		[ $os != js ] || arch=wasm
		echo "GOOS=$os GOARCH=$arch go build ./$room/..."
		GOOS=$os GOARCH=$arch go build "./$room/..."
	done
done
