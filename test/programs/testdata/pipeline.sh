#!/bin/bash
# Numbers go through a pipeline of six processes and come out in order.
# Usage: pipeline.sh GATE DIR
set -u
gate=$1
mkfifo "$2/clock"
exec 9<>"$2/clock" # waits without a new process: nothing is ever written to it

count() {
	local n=0
	while :; do
		while [ -e "$gate" ]; do read -r -t 0.05 -u 9; done
		echo $((++n))
		read -r -t 0.002 -u 9
	done
}

tag() { while read -r n; do echo "$1 $n"; done; }

untag() {
	local expect=1
	while read -r one two three n; do
		if [ "$one$two$three" != cba ] || [ "$n" != $expect ]; then
			echo "bad: $one $two $three $n, expected $expect"
			exit 3
		fi
		expect=$((expect + 1))
		echo "$n"
	done
}

count | tag a | tag b | sed -u -e 's/^/c /' | untag | grep --line-buffered .
