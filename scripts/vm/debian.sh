#!/bin/sh
# debian.sh IMAGE: makes a file system of Debian 12 with systemd, logind and
# sshd, from Debian's archive. Nobody has a password; root and the user "user"
# let in the key that lies beside the image.
#
# Nothing in it is of ours: tests put that in.
set -eu
umask 022

image=$1
for tool in mmdebstrap mke2fs ssh-keygen; do
	if ! PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null; then
		echo "debian.sh: $tool is missing" >&2
		echo "hint: on Debian, apt-get install mmdebstrap e2fsprogs openssh-client" >&2
		exit 1
	fi
done
export PATH="$PATH:/usr/sbin:/sbin"
work=$(mktemp -d "$image.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # apt-get drops its rights
root=$work/root

mmdebstrap --quiet --mode=root --variant=minbase \
	--include=systemd-sysv,dbus,libpam-systemd,login,passwd,util-linux,procps,e2fsprogs,udev,kmod,openssh-server,openssh-client \
	--dpkgopt=path-exclude=/usr/share/man/* --dpkgopt=path-exclude=/usr/share/locale/* --dpkgopt=path-exclude=/usr/share/doc/* \
	bookworm "$root" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }

echo machine >"$root/etc/hostname"
echo "127.0.0.1 localhost machine" >"$root/etc/hosts"
echo "/dev/vda / ext4 defaults 0 1" >"$root/etc/fstab"
: >"$root/etc/machine-id" # the first boot makes one
chroot "$root" useradd -m -s /bin/bash user
ssh-keygen -q -t ed25519 -N '' -C '' -f "$work/key"
for home in "$root/root" "$root/home/user"; do
	mkdir -p -m 700 "$home/.ssh"
	cp "$work/key.pub" "$home/.ssh/authorized_keys"
done
chroot "$root" chown -R user: /home/user
install -m 600 "$work/key" "$root/root/.ssh/id_ed25519"
echo "StrictHostKeyChecking no" >"$root/root/.ssh/config"
# Machines whose power is cut often would else find no time for the tests.
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*

truncate -s 2G "$work/image"
mke2fs -q -t ext4 -d "$root" "$work/image"
mv "$work/image" "$image"
