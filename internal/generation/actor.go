package generation

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/wakepoint/wakepoint/internal/engine"
	"github.com/wakepoint/wakepoint/internal/files"
	"github.com/wakepoint/wakepoint/internal/image"
)

// actorOf finds as whom the files of a generation are put back: nil is as this
// process. A generation without processes has nobody.
func actorOf(r engine.Source) (*files.Identity, error) {
	text, err := r.Blob(engine.TreeBlob)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := image.Decode(text)
	if err != nil {
		return nil, fmt.Errorf("whose files they are: %w", err)
	}
	return actor(t), nil
}

// beyondOwners are the capabilities by which one may write, sooner or later,
// whatever file there is.
const beyondOwners = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER

// actor is the user of a tree's first process; nil when any thread of the tree
// is root's, or can be, or may write where it likes.
func actor(t *image.Tree) *files.Identity {
	var who *files.Identity
	for _, p := range t.Processes {
		for _, th := range p.Threads {
			c := th.Creds
			for _, uid := range c.UID {
				if uid == 0 {
					return nil
				}
			}
			if c.Permitted&beyondOwners != 0 {
				return nil
			}
			if who == nil {
				who = &files.Identity{UID: c.UID[3], GID: c.GID[3], Groups: c.Groups}
			}
		}
	}
	return who
}
