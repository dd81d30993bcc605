#!/bin/sh
# Tries the package in dist/ on Debian 12 with systemd, in machines in QEMU, and
# says "k of N".
#   RUN=regexp    only these tests, and the first one, which installs the package
#   RECORD=FILE   writes down a power cut and what is seen after it (doc/recovery-session.md)
#   SEED=1        where what is drawn begins
#   KERNEL=6.1    the line of Debian's kernels
# The file system of Debian and the kernel stay in build/vm.
set -eu
umask 022

scripts/setup-tests.sh
cache=$PWD/build/vm
mkdir -p "$cache"
image=$cache/debian-12.img
if [ ! -e "$image" ] || [ scripts/vm/debian.sh -nt "$image" ]; then
	echo "vm-systemd: making a file system of Debian" >&2
	scripts/vm/debian.sh "$image"
fi

# Another version: the same package with another program in it.
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
deb=$(ls "$PWD"/dist/wakepoint_*_amd64.deb)
version=$(dpkg-deb -f "$deb" Version).next
dpkg-deb -R "$deb" "$work/next"
go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$work/next/usr/bin/wakepoint" ./cmd/wakepoint
sed -i "s/^Version: .*/Version: $version/" "$work/next/DEBIAN/control"
(cd "$work/next" && find usr -type f -exec md5sum {} + >DEBIAN/md5sums)
dpkg-deb --root-owner-group -b "$work/next" "$work/next.deb" >/dev/null

go vet -tags vmsystemd ./test/vm/systemd
go test -c -tags vmsystemd -o "$work/test" ./test/vm/systemd
record=${RECORD:+$(realpath "$RECORD")}
cd test/vm/systemd
"$work/test" -test.timeout 6h -test.v -test.run "TestSystemd/^(package|${RUN:-.*})$" -systemd.image "$image" -systemd.deb "$deb" \
	-systemd.next "$work/next.deb" -systemd.kernel "${KERNEL:-6.1}" -systemd.seed "${SEED:-1}" -systemd.record "$record"
