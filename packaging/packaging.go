// Package packaging holds what is installed beside the program.
package packaging

import "embed"

// Units are the units of systemd, and what is added to units of systemd's own.
// What they execute is /usr/bin/wakepoint.
//
//go:embed *.service *.slice session-.scope.d user@.service.d
var Units embed.FS
