package engine

import "testing"

// TestZooUnix: UNIX sockets within the tree come back whole.
func TestZooUnix(t *testing.T) {
	zoo(t, "sockets", named(`stream_pair dgram_pair seqpacket_pair full_pair in_flight in_flight_deep listen_path
		listen_relative listen_abstract listen_seqpacket unlinked dgram_bound shutdowns hung_up peer_creds pair_processes`))
	zoo(t, "sockets", []animal{{name: "unaccepted_data", refused: "waits to be accepted"}})
}

// TestZooInternet: what listens comes back, what was connected comes back reset.
func TestZooInternet(t *testing.T) {
	zoo(t, "sockets", named(`tcp_listeners reuseport mptcp raw_state udp udp6 tcp4 tcp6 tcp_blocked tcp_unaccepted tcp_ended netlinks`))
}
