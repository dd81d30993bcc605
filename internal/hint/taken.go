package hint

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// taken says who holds a port, if that can be seen.
func taken(port int) string {
	who := holderOf(port)
	if who == "" {
		return fmt.Sprintf("another program holds port %d: `ss -lpn` shows which; end it and try again", port)
	}
	return fmt.Sprintf("%s holds port %d: end it and try again", who, port)
}

// holderOf finds the process that holds a port of this network namespace:
// "pid 812 (nginx)"; "" when none is to be seen.
func holderOf(port int) string {
	sockets := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if inode, ok := bound(line, table, port); ok {
				sockets["socket:["+inode+"]"] = true
			}
		}
	}
	if len(sockets) == 0 {
		return ""
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && sockets[to] {
			pid := strings.Split(link, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("pid %s (%s)", pid, strings.TrimSpace(string(name)))
		}
	}
	return ""
}

// bound reads a line of /proc/net/tcp or udp (proc_net(5)) and returns the
// inode of a socket that is bound to a port and, for TCP, listens.
func bound(line, table string, port int) (inode string, ok bool) {
	f := strings.Fields(line) // sl local remote st queues timer retrnsmt uid timeout inode
	if len(f) < 10 {
		return "", false
	}
	_, hex, _ := strings.Cut(f[1], ":")
	n, err := strconv.ParseUint(hex, 16, 16)
	const listens = "0A" // TCP_LISTEN
	if err != nil || int(n) != port || strings.HasPrefix(table, "tcp") && f[3] != listens {
		return "", false
	}
	return f[9], true
}
