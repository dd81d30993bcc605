#!/bin/sh
# Installs what the tests use and does not find here: as root on Debian by
# apt-get, otherwise it names what is missing, and the tests that need it skip
# by name. Installed services are not started.
set -eu

export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"
missing=

# need PACKAGE TEST...: the package is missing unless the test holds.
need() {
	package=$1
	shift
	if ! "$@" >/dev/null 2>&1; then
		missing="$missing $package"
	fi
}
has() { command -v "$1"; }
postgres() { ls /usr/lib/postgresql/*/bin/initdb /usr/lib/postgresql/*/bin/pgbench; }

need gcc has gcc
need binutils has objcopy
need libc6-dev test -e /usr/include/stdio.h
need redis-server has redis-server
need python3 /usr/bin/python3 -c 'import asyncio, ctypes, multiprocessing, pty' # python3-minimal has less
need nodejs has node
need default-jdk-headless has javac
need sqlite3 has sqlite3
need nginx has nginx
need postgresql postgres
need vim has vim
need procps has top
need util-linux has setpriv
need systemd has systemd-analyze
need xfsprogs has mkfs.xfs
need btrfs-progs has mkfs.btrfs
need qemu-system-x86 has qemu-system-x86_64
need e2fsprogs has mkfs.ext4
need mmdebstrap has mmdebstrap

if [ -z "$missing" ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "setup-tests: not installed, their tests will skip:$missing" >&2
	echo "hint: run as root on Debian, or install them yourself" >&2
	exit 0
fi

# Without this Debian would start redis, nginx and postgresql at once.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi
echo "setup-tests: installing$missing" >&2
log=$(mktemp)
# shellcheck disable=SC2086 # a list of packages
if ! { apt-get update -q && apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "setup-tests: apt-get did not install$missing; their tests will skip" >&2
fi
rm -f "$log"
