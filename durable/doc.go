// Package durable keeps the state of a server in memory and on a disk, so that
// it is whole after a crash or a power cut at any instant. It is being made: so
// far there is how keys and values become bytes.
package durable
