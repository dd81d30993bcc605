// Package packaging holds what is installed beside the program.
package packaging

import "embed"

// Units are the units of systemd. What they execute is /usr/bin/wakepoint.
//
//go:embed *.service *.slice
var Units embed.FS
