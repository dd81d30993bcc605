#!/bin/sh
# Runs the tests of whole programs and of the engine on Debian's kernels, one
# machine in QEMU after the other, and says "k of N" for each. An image that was
# taken on one kernel is brought back on the next as well.
#   KERNELS="6.12 6.1"  which, in this order
#   MINUTES=40          how long one machine may take
#   RUN=regexp          only these tests
# Nothing is installed: packages are fetched by apt-get into build/vm, where the
# machines' consoles stay as well. KVM is not used: emulation works everywhere.
set -eu
umask 022

kernels=${KERNELS:-6.12 6.1}
minutes=${MINUTES:-40}
for tool in qemu-system-x86_64 apt-get dpkg-deb gcc mkfs.ext4 debugfs xz python3 redis-server sqlite3 nginx vim top; do
	if ! PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null; then
		echo "vm-kernels: $tool is missing" >&2
		echo "hint: on Debian, make test installs what the tests use; apt-get install qemu-system-x86 for the machine" >&2
		exit 1
	fi
done
export PATH="$PATH:/usr/sbin:/sbin" CGO_ENABLED=0
cache=$PWD/build/vm
mkdir -p "$cache"
work=$(mktemp -d "$cache/work.XXXXXX")
machine=
trap 'rm -rf "$work"' EXIT
trap '[ -z "$machine" ] || kill "$machine"; exit 130' INT TERM
root=$work/root

# unpacked PACKAGE: the directory where the package lies unpacked.
unpacked() {
	if [ ! -d "$cache/$1" ]; then
		(cd "$work" && apt-get download -q "$1" >apt.log 2>&1) || { cat "$work/apt.log" >&2; exit 1; }
		dpkg-deb -x "$work/$1"_*.deb "$work/unpacked"
		mv "$work/unpacked" "$cache/$1"
	fi
	echo "$cache/$1"
}

# newest VERSION: the package of the newest kernel of a line, for clouds: small.
newest() {
	name=$(apt-cache pkgnames "linux-image-$1." | grep -E -- '-cloud-amd64$' | sort -V | tail -n 1)
	[ -n "$name" ] || { echo "vm-kernels: apt-get knows no kernel $1" >&2; exit 1; }
	echo "$name"
}

# bring FILE...: into the machine, with the libraries that they need.
bring() {
	for file; do
		for f in "$file" $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*'); do
			[ -f "$root$f" ] && [ ! -L "$root$f" ] && continue
			mkdir -p "$root${f%/*}"
			rm -f "$root$f"
			cp -pL "$f" "$root$f"
		done
	done
}

# tests PACKAGE: its tests, with what they have built at run time beside the sources.
tests() {
	mkdir -p "$root/src/$1"
	cp -R "$1/testdata" "$root/src/$1/"
	go test -c -o "$root/src/$1/tests" "./$1"
	find "$root/src/$1/testdata" -name '*.c' | while read -r source; do
		static=
		[ "${source##*/}" != counter.c ] || static=-static
		# shellcheck disable=SC2086 # a flag or none
		gcc -O1 -w -pthread $static -o "$source.built" "$source" -lm -lrt 2>/dev/null || echo "vm-kernels: $source does not compile" >&2
	done
}

fill() {
	for dir in bin sbin dev etc proc sys tmp run root usr/bin usr/sbin usr/lib var/lib/nginx var/log/nginx images; do
		mkdir -p "$root/$dir"
	done
	box=$(unpacked busybox-static)/bin/busybox
	cp "$box" "$root/bin/"
	for name in $("$box" --list); do
		[ "$name" = busybox ] || ln -s busybox "$root/bin/$name"
	done
	rm -f "$root/bin/init" "$root/sbin/init"
	bring /bin/bash /bin/sleep /bin/sed /bin/grep /usr/bin/stdbuf /usr/libexec/coreutils/libstdbuf.so /usr/bin/unshare /usr/bin/sqlite3 \
		/usr/bin/redis-server /usr/bin/vim /usr/bin/top /usr/bin/python3 "$(command -v nginx)" /usr/lib/x86_64-linux-gnu/libnss_files.so.2
	python=/usr/lib/$(basename "$(readlink -f /usr/bin/python3)")
	cp -R "$python" "$root/usr/lib/"
	rm -rf "$root$python/test" "$root$python"/config-*
	bring "$python"/lib-dynload/*.so
	cp -RL /lib/terminfo "$root/lib/"
	cp /etc/passwd /etc/group /etc/nsswitch.conf "$root/etc/"
	cp -RL /etc/nginx "$root/etc/"
	go build -trimpath -o "$root/usr/bin/wakepoint" ./cmd/wakepoint
	tests test/programs
	tests internal/engine
	go build -o "$root/src/test/programs/testdata/goserver.built" ./test/programs/testdata/goserver
	for program in clocks random; do
		gcc -O1 -static -o "$root/usr/bin/$program" "internal/engine/testdata/$program.c"
	done
	[ -z "${RUN:-}" ] || echo "$RUN" >"$root/run-only"
	install -m 755 scripts/vm/built "$root/usr/bin/gcc"
	install -m 755 scripts/vm/built "$root/usr/bin/go"
	install -m 755 scripts/vm/init "$root/sbin/init"
}

# initrd KERNEL: the little that finds the disk.
initrd() {
	dir=$work/initrd
	rm -rf "$dir"
	mkdir -p "$dir/bin" "$dir/mod" "$dir/proc" "$dir/sys" "$dir/dev" "$dir/root"
	cp "$root/bin/busybox" "$dir/bin/"
	install -m 755 scripts/vm/initrd "$dir/init"
	n=10
	for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk unix_diag inet_diag tcp_diag udp_diag; do
		module=$(find "$1/lib/modules" -name "$name.ko*")
		case $module in
		*.xz) xz -dc "$module" >"$dir/mod/$n-$name.ko" ;;
		?*) cp "$module" "$dir/mod/$n-$name.ko" ;;
		esac
		n=$((n + 1))
	done
	(cd "$dir" && find . | bin/busybox cpio -o -H newc 2>/dev/null) >"$work/initrd.cpio"
}

# boot VERSION: one machine, from its start to its end. What it wants to hand
# on comes back from its disk.
boot() {
	package=$(newest "$1")
	kernel=$(unpacked "$package")
	initrd "$kernel"
	rm -f "$work/disk"
	truncate -s 2G "$work/disk"
	mkfs.ext4 -q -d "$root" "$work/disk"
	timeout -s KILL "${minutes}m" qemu-system-x86_64 -accel tcg -machine q35 -cpu max -m 2048 -smp 2 -display none -nodefaults \
		-no-reboot -monitor none -serial "file:$cache/$1.log" -kernel "$kernel"/boot/vmlinuz-* -initrd "$work/initrd.cpio" \
		-append "console=ttyS0 quiet panic=-1 reboot=t" -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" &
	machine=$!
	wait "$machine" || echo "vm-kernels: the machine of $1 ended with $?" >&2
	machine=
	rm -rf "$root/images"
	debugfs -R "rdump /images $root" "$work/disk" 2>/dev/null
	mkdir -p "$root/images"
}

# report VERSION: k of N, and the names of those that failed; false if there are any.
report() {
	log=$work/report
	tr -d '\r' <"$cache/$1.log" >"$log"
	passed=$(grep -c '^--- PASS' "$log" || true)
	failed=$(sed -n 's/^--- \(FAIL\|SKIP\): \([^ ]*\).*/\2/p' "$log" | tr '\n' ' ')
	all=$((passed + $(echo "$failed" | wc -w)))
	if ! grep -q '^the end of the tests$' "$log"; then
		failed="$failed(it did not reach the end)"
	fi
	echo "$1: $passed of $all${failed:+; not: $failed}"
	[ -z "$failed" ] || { echo "hint: $cache/$1.log" >&2; return 1; }
}

fill
code=0
for version in $kernels; do
	boot "$version"
	report "$version" || code=1
done
exit $code
