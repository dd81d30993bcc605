package procfs

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	shmText = `       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
      4660          0   600                  8192  7635  7636     2  1000   100     0     5 1795401557 1795401558 1795401556                  4096                   512
-559038737 2147483647  1600  18446744073709551615     0     0     0 65534     0     0     0          0          0          0                     0                     0
`
	semText = `       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime
       153          7   640          3  1000     1     2     3 1795401557 1795401556
`
	msgText = `       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime
       119          8   600          10          2   812   813     1     2     3     4 1795401555 1795401557 1795401556
`
)

func TestParseSharedMemory(t *testing.T) {
	want := []SharedMemory{{
		IPCOwner:  IPCOwner{Key: 0x1234, Mode: 0o600, UID: 1000, GID: 100, CreatorGID: 5, ChangeTime: 1795401556},
		SizeBytes: 8192, CreatorPID: 7635, LastPID: 7636, Attached: 2, AttachTime: 1795401557,
		DetachTime: 1795401558, RSSBytes: 4096, SwapBytes: 512,
	}, {
		IPCOwner:  IPCOwner{Key: -559038737, ID: 1<<31 - 1, Mode: 0o1600, UID: 65534},
		SizeBytes: 1<<64 - 1,
	}}
	got, err := ParseSharedMemory([]byte(shmText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseSemaphores(t *testing.T) {
	want := []SemaphoreSet{{
		IPCOwner: IPCOwner{Key: 153, ID: 7, Mode: 0o640, UID: 1000, GID: 1, CreatorUID: 2, CreatorGID: 3, ChangeTime: 1795401556},
		Count:    3, OpTime: 1795401557,
	}}
	got, err := ParseSemaphores([]byte(semText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseMessageQueues(t *testing.T) {
	want := []MessageQueue{{
		IPCOwner: IPCOwner{Key: 119, ID: 8, Mode: 0o600, UID: 1, GID: 2, CreatorUID: 3, CreatorGID: 4, ChangeTime: 1795401556},
		Bytes:    10, Messages: 2, LastSendPID: 812, LastReceivePID: 813, SendTime: 1795401555, ReceiveTime: 1795401557,
	}}
	got, err := ParseMessageQueues([]byte(msgText))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestParseIPCRefuses(t *testing.T) {
	for _, bad := range []string{"key\n1 2 3\n", "key\n\n", "key\nx\n"} {
		_, err1 := ParseSharedMemory([]byte(bad))
		_, err2 := ParseSemaphores([]byte(bad))
		_, err3 := ParseMessageQueues([]byte(bad))
		if err1 == nil || err2 == nil || err3 == nil {
			t.Errorf("%q: %v, %v, %v", bad, err1, err2, err3)
		}
	}
}
