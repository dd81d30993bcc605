#!/bin/bash
# Feeds transactions to sqlite3, slowly, so that most of the time one is open;
# prints the number of each that is committed.
# Usage: sqlite.sh GATE DIR
set -u
gate=$1
mkfifo "$2/clock"
exec 9<>"$2/clock" # waits without a new process: nothing is ever written to it

produce() {
	local n=0 i
	echo ".bail on"
	echo ".timeout 20000"
	echo "PRAGMA cache_size=20;" # spills into the file before the commit
	echo "CREATE TABLE t(i INTEGER PRIMARY KEY, tx INTEGER, data BLOB);"
	echo "CREATE TABLE total(n INTEGER); INSERT INTO total VALUES(0);"
	while :; do
		while [ -e "$gate" ]; do read -r -t 0.05 -u 9; done
		n=$((n + 1))
		echo "BEGIN IMMEDIATE;"
		for i in 1 2 3 4 5 6 7 8 9 10; do
			echo "INSERT INTO t(tx, data) VALUES($n, randomblob(3000));"
			read -r -t 0.001 -u 9
		done
		echo "DELETE FROM t WHERE tx = $n - 40; UPDATE total SET n = n + 1; COMMIT; SELECT n FROM total;"
		read -r -t 0.005 -u 9
	done
}

produce | stdbuf -oL sqlite3 "$2/data.db"
