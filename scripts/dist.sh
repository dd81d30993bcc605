#!/bin/sh
# Packs bin/wakepoint with its man pages and completions into dist/: a tar.gz
# and a .deb. The same commit gives the same bytes: sorted, owned by root, dated
# by the commit, built with -trimpath.
set -eu
umask 022

SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
VERSION=$(scripts/version.sh)
export SOURCE_DATE_EPOCH VERSION TZ=UTC LC_ALL=C
name=wakepoint-$VERSION-linux-amd64

rm -rf dist
mkdir -p dist

# The tarball.
stage=dist/stage/$name
mkdir -p "$stage/man" "$stage/completion" "$stage/systemd"
cp bin/wakepoint LICENSE CHANGELOG.md "$stage/"
cp -R packaging/*.service packaging/*.slice packaging/*.d "$stage/systemd/"
[ ! -e README.md ] || cp README.md "$stage/"
bin/wakepoint man "$stage/man"
for shell in bash zsh fish; do
	bin/wakepoint completion "$shell" >"$stage/completion/wakepoint.$shell"
done
# What was cloned or built under another umask gives the same package.
chmod -R u=rwX,go=rX dist/stage
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -C dist/stage -cf - "$name" |
	gzip -n9 >"dist/$name.tar.gz"

# The package: the same files where Debian wants them.
usr=dist/stage/deb/usr
mkdir -p "$usr/bin" "$usr/lib/systemd/system" "$usr/share/man/man1" "$usr/share/doc/wakepoint" "$usr/share/bash-completion/completions" \
	"$usr/share/zsh/vendor-completions" "$usr/share/fish/vendor_completions.d"
cp bin/wakepoint "$usr/bin/"
cp -R packaging/*.service packaging/*.slice packaging/*.d "$usr/lib/systemd/system/"
cp "$stage"/man/*.1 "$usr/share/man/man1/"
gzip -n9 "$usr"/share/man/man1/*.1
cp "$stage/completion/wakepoint.bash" "$usr/share/bash-completion/completions/wakepoint"
cp "$stage/completion/wakepoint.zsh" "$usr/share/zsh/vendor-completions/_wakepoint"
cp "$stage/completion/wakepoint.fish" "$usr/share/fish/vendor_completions.d/wakepoint.fish"
cp packaging/copyright "$usr/share/doc/wakepoint/copyright"
gzip -n9 <CHANGELOG.md >"$usr/share/doc/wakepoint/changelog.gz"
chmod -R u=rwX,go=rX dist/stage
find dist/stage/deb -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
go run "$NFPM" package --config packaging/nfpm.yaml --packager deb --target dist/

rm -rf dist/stage
(cd dist && sha256sum ./*.tar.gz ./*.deb | tee SHA256SUMS)
