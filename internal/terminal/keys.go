package terminal

import "bytes"

// detachKeys finds C-\ followed by d in what is typed. C-\ twice sends one
// C-\; C-\ and anything else sends both. Programs that asked for it get C-\
// from the terminal as an escape sequence, so three spellings are known:
// the plain byte, xterm's modifyOtherKeys and the CSI u one.
type detachKeys struct {
	held []byte // a C-\ that waits for its second key
}

var prefixKeys = [][]byte{{0x1c}, []byte("\x1b[27;5;92~"), []byte("\x1b[92;5u")}

// feed takes what was typed. It returns what goes to the program, and whether
// the person wants to leave; what was typed after that is dropped. A spelling
// that was cut by the end of p is not recognised: terminals write one at once.
func (k *detachKeys) feed(p []byte) (out []byte, detach bool) {
	for len(p) > 0 {
		key, isKey := leadingPrefix(p)
		switch {
		case k.held == nil && isKey:
			k.held = bytes.Clone(key)
			p = p[len(key):]
		case k.held == nil:
			out = append(out, p[0])
			p = p[1:]
		case p[0] == 'd':
			return out, true
		case isKey:
			out = append(out, key...)
			p, k.held = p[len(key):], nil
		default:
			out = append(append(out, k.held...), p[0])
			p, k.held = p[1:], nil
		}
	}
	return out, false
}

func leadingPrefix(p []byte) ([]byte, bool) {
	for _, key := range prefixKeys {
		if bytes.HasPrefix(p, key) {
			return key, true
		}
	}
	return nil, false
}
