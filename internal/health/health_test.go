package health

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	for _, text := range []string{"", "exec:true", "exec:curl -f localhost | grep ok", "tcp:localhost:80", "tcp:[::1]:6379", "http://localhost/health", "https://x:1/"} {
		c, err := Parse(text)
		if err != nil || c.String() != text {
			t.Errorf("%q: %q, %v", text, c, err)
		}
	}
	for _, text := range []string{"true", "exec:", "exec: ", "exec:a\x00b", "tcp:localhost", "tcp::80", "tcp:host:", "ftp://x", "http://", "http:/x"} {
		if c, err := Parse(text); err == nil {
			t.Errorf("%q is %v", text, c)
		}
	}
}

func TestRun(t *testing.T) {
	well := http.NewServeMux()
	well.HandleFunc("/well", func(w http.ResponseWriter, r *http.Request) {})
	well.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ill", http.StatusFound) })
	well.HandleFunc("/ill", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	well.HandleFunc("/flood", func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 1<<16)); err != nil {
				return
			}
		}
	})
	well.HandleFunc("/heads", func(w http.ResponseWriter, r *http.Request) {
		for i := range 10000 {
			w.Header().Set(fmt.Sprintf("X-%d", i), "much")
		}
	})
	well.HandleFunc("/hangs", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s, safe := httptest.NewServer(well), httptest.NewTLSServer(well)
	defer s.Close()
	defer safe.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	for text, ill := range map[string]string{
		"":                           "",
		"exec:true":                  "",
		"exec:sleep 100 & true":      "",
		"exec:echo broken; false":    "exit status 1: broken",
		"exec:no-such-command":       "exit status 127",
		"exec:yes broken":            "prints without an end",
		"exec:yes | head -c 3000000": "prints without an end",
		"exec:yes | head -c 900000":  "",
		"exec:trap '' PIPE; while :; do echo broken; done":           "no answer in time",
		"exec:for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done":       "",
		"exec:for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; wait": "no answer in time",
		"exec:sleep 100": "no answer in time",
		"exec:trap '' TERM INT; sleep 100 & wait": "no answer in time",
		"tcp:" + s.Listener.Addr().String():       "",
		"tcp:" + closed:                           "refused",
		s.URL + "/well":                           "",
		safe.URL + "/well":                        "",
		s.URL + "/moved":                          "",
		s.URL + "/ill":                            "503 Service Unavailable",
		s.URL + "/flood":                          "",
		s.URL + "/heads":                          "server response headers exceeded",
		s.URL + "/hangs":                          "no answer in time",
		"http://" + closed:                        "refused",
	} {
		c, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if strings.Contains(ill, "in time") {
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 300*time.Millisecond)
		}
		err = c.Run(ctx)
		cancel()
		if ill == "" && err != nil || ill != "" && (err == nil || !strings.Contains(err.Error(), ill) || !strings.HasPrefix(err.Error(), text) || len(err.Error()) > 400) {
			t.Errorf("%q: %v, want %q", text, err, ill)
		}
	}
}

// TestNothingStays: a check that runs out of time takes with it what it has
// started.
func TestNothingStays(t *testing.T) {
	for name, command := range map[string]string{
		"in its group":            "sleep 1000 & echo $! >PID; wait",
		"in a session of its own": "setsid sh -c 'echo $$ >PID; sleep 1000 & wait' & wait",
		"below one in another":    "setsid sh -c 'sleep 1000 & echo $! >PID; wait' & wait",
	} {
		t.Run(name, func(t *testing.T) { nothingStays(t, command) })
	}
}

func nothingStays(t *testing.T, command string) {
	pid := t.TempDir() + "/pid"
	c, err := Parse("exec:" + strings.ReplaceAll(command, "PID", pid))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx); err == nil {
		t.Error("it is well")
	}
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it has left a process behind")
		}
	}
}
