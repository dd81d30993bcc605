package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Transport is a http.RoundTripper by which a client's requests are done once each:
// it gives them their numbers and proofs, and sends them again until the server says what
// became of them, or their context ends. A 5xx that the server did not stamp is of someone
// on the way, and says nothing. Answers are read as a whole. Any number of goroutines may
// use it; of one Credential there is one at a time.
//
// Errors of RoundTrip: ErrUnknown when the context has ended first; *RolledBackError
// when the server came back without requests that were answered: this one was not
// done, and no new one is sent until Accept is called.
type Transport struct {
	Credential Credential
	Base       http.RoundTripper // nil: http.DefaultTransport

	mu      sync.Mutex
	life    uint64 // a random number; 0: nothing was asked for yet
	server  uint64 // its life as of which it is known how things stand; 0: of none
	first   uint64 // of this life; nothing is told of requests below it
	next    uint64
	flying  map[uint64]bool
	blank   spans // requests without an answer that was kept, or that were told of as undone
	undone  *RolledBackError
	changed chan struct{} // closed when one has an answer
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(h *http.Request) (*http.Response, error) {
	x := &exchange{t: t, h: h}
	if w := t.Credential.Window; w == 0 || w > WindowMax {
		return nil, errors.New("session: a Transport without a Credential")
	}
	if h.Body != nil {
		var err error
		x.body, err = io.ReadAll(h.Body)
		if err = errors.Join(err, h.Body.Close()); err != nil {
			return nil, err
		}
	}
	defer x.over()
	for wait := time.Duration(0); ; wait = min(max(wait, againLeast)*9/8, againMost) {
		if err := x.take(); err != nil {
			return nil, err
		}
		response, err := x.send()
		if err == nil {
			var over bool
			if over, err = x.judge(response); over && err != nil {
				return nil, err
			} else if over {
				return response, nil
			}
		}
		if errors.Is(err, errNow) && wait == 0 {
			continue
		}
		select {
		case <-time.After(wait):
		case <-h.Context().Done():
			if !x.asked {
				return nil, errors.Join(h.Context().Err(), err)
			}
			return nil, errors.Join(ErrUnknown, h.Context().Err(), err) // should it come later, it is done or it is too late
		}
	}
}

// Accept lets requests go on after a rollback. What is to be done again is the caller's.
func (t *Transport) Accept() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.undone != nil && !t.undone.Session {
		t.undone = nil
	}
}

// exchange is a request on its way.
type exchange struct {
	t     *Transport
	h     *http.Request
	body  []byte
	head  head // number 0: it has none yet
	asked bool // it was sent with a number
	kept  bool // there is an answer that is kept
}

// errNow says that there is a reason to send a request again at once.
var errNow = errors.New("session: once more")

// take takes a number, when the window has room for it. As long as it is not known how
// things stand there are none: the server does nothing, and says it.
func (x *exchange) take() error {
	t := x.t
	for {
		t.mu.Lock()
		if t.life == 0 {
			t.life, t.flying, t.changed = max(rand.Uint64(), 1), map[uint64]bool{}, make(chan struct{})
		}
		fresh := x.head.seq == 0
		switch {
		case fresh && t.undone != nil:
			defer t.mu.Unlock()
			return t.undone
		case !fresh || t.server == 0 || t.next-t.floor() < t.Credential.Window:
			defer t.mu.Unlock()
			x.head.life, x.head.server = t.life, t.server
			if fresh && t.server != 0 {
				x.head.seq = t.next
				t.flying[t.next] = true
				t.next++
			}
			x.head.floor = t.floor()
			return nil
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-x.h.Context().Done():
			return x.h.Context().Err()
		}
	}
}

// floor is the lowest number without an answer: mu is held.
func (t *Transport) floor() uint64 {
	low := t.next
	for seq := range t.flying {
		low = min(low, seq)
	}
	return low
}

// send sends a request, and reads the answer as a whole.
func (x *exchange) send() (*http.Response, error) {
	again := x.h.Clone(x.h.Context())
	again.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(x.body)), nil }
	again.Body, _ = again.GetBody() // has no error
	again.ContentLength, again.TransferEncoding = int64(len(x.body)), nil
	if len(x.body) == 0 {
		again.Body, again.GetBody = http.NoBody, nil
	}
	c := x.t.Credential
	again.Header.Set(headerSession, fmt.Sprint(c.Session))
	again.Header.Set(headerRequest, x.head.seal(c.Secret, x.h.Method, x.h.URL.RequestURI(), x.body))
	base := x.t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	x.asked = x.asked || x.head.seq > 0
	response, err := base.RoundTrip(again)
	if err != nil {
		return nil, err
	}
	all, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	response.Body, response.Request = io.NopCloser(bytes.NewReader(all)), x.h
	return response, nil
}

// judge says whether an answer is the last one. With an error it is none.
func (x *exchange) judge(response *http.Response) (over bool, err error) {
	t := x.t
	later := fmt.Errorf("the last answer was %s", response.Status)
	seq, what, ok := parseStamp(response.Header.Get(headerReply))
	if !ok || seq != x.head.seq { // of someone on the way
		if response.StatusCode >= http.StatusInternalServerError {
			return false, later
		}
		return true, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.head.server != t.server { // an answer of an earlier life may be undone
		return false, errNow
	}
	if text := response.Header.Get(headerState); text != "" {
		s, err := parseStanding(text)
		if err != nil {
			return false, err
		}
		return x.stands(s)
	}
	switch {
	case what == stampBehind:
		t.undo(behind(1, t.first, nil), 1, true)
		return true, t.undone
	case what == stampReused: // by a request of an earlier life: this one was not done
		x.leave()
		return false, errNow
	case what == stampStale:
		return true, errors.Join(ErrUnknown, ErrStale)
	case what == stampAgain, response.StatusCode == http.StatusServiceUnavailable:
		return false, later
	}
	x.kept = what == stampKept
	return true, nil
}

// stands takes in how things stand: mu is held.
func (x *exchange) stands(s standing) (over bool, err error) {
	t := x.t
	fresh := t.server == 0
	t.server = s.life
	if fresh {
		t.first, t.next = s.next(), s.next()
		return false, errNow
	}
	w := t.Credential.Window
	if !t.undo(behind(w, max(s.floor, t.first), s.slots), w, false) {
		return false, errNow
	}
	for _, seq := range s.slots {
		if seq%w == x.head.seq%w && seq >= x.head.seq {
			return false, errNow // there is a reply
		}
	}
	return true, t.undone
}

// undo tells of every so manieth request from some on that have an answer as undone,
// once: mu is held. False: there are none.
func (t *Transport) undo(from []uint64, every uint64, session bool) bool {
	var list []Undone
	for _, seq := range from {
		for ; seq < t.next; seq += every {
			if seq > 0 && !t.flying[seq] && !t.blank.has(seq) {
				list = append(list, Undone{Seq: seq})
			}
		}
	}
	if len(list) == 0 && !session {
		return false
	}
	t.undone = t.undone.with(list, session)
	for _, u := range t.undone.Undone {
		t.tellNot(u.Seq)
	}
	return true
}

// over lets go of a request, for good.
func (x *exchange) over() {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	x.leave()
}

// leave gives up a request's number: mu is held.
func (x *exchange) leave() {
	t := x.t
	if x.head.seq == 0 {
		return
	}
	if delete(t.flying, x.head.seq); !x.kept {
		t.tellNot(x.head.seq)
	}
	x.head.seq = 0
	close(t.changed)
	t.changed = make(chan struct{})
}

// spansMost is how many spans a Transport remembers, at most.
const spansMost = 1 << 16

// tellNot keeps that nothing is to be told of a request: mu is held.
func (t *Transport) tellNot(seq uint64) {
	t.blank.add(seq)
	if len(t.blank) > spansMost {
		t.first = max(t.first, t.blank[0].to)
		t.blank = t.blank[1:]
	}
}
