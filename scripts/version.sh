#!/bin/sh
# Prints the version: the tag v1.2.3 as 1.2.3, otherwise 0.0.0 with the date and
# name of the commit, so that later ones sort later. A changed tree says so.
set -eu
if ! head=$(git rev-parse --short=12 HEAD 2>/dev/null); then
	echo 0.0.0
	exit 0
fi
dirty=
if [ -n "$(git status --porcelain --untracked-files=no)" ]; then
	dirty=.dirty
fi
if tag=$(git describe --tags --exact-match --match 'v[0-9]*' HEAD 2>/dev/null); then
	version=${tag#v}
else
	version=0.0.0+$(TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd HEAD).$head
fi
echo "$version$dirty"
