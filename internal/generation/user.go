package generation

import (
	"fmt"
	"os"
	"slices"

	"github.com/wakepoint/wakepoint/internal/image"
)

// User is whose processes may be imported.
type User struct {
	UID, GID uint32
	Groups   []int
	Root     bool // anybody's
}

// ThisUser is who runs this process.
func ThisUser() User {
	groups, _ := os.Getgroups() // none is no more than he has
	return User{uint32(os.Geteuid()), uint32(os.Getegid()), groups, os.Geteuid() == 0}
}

// Own refuses a tree of which a process is not wholly the user's own: another
// user or group, or a capability.
func (u User) Own(t *image.Tree) error {
	if u.Root {
		return nil
	}
	for _, p := range t.Processes {
		for _, th := range p.Threads {
			why := u.foreign(th.Creds)
			if why == "" {
				continue
			}
			return fmt.Errorf("process %d (%s) %s", p.PID, p.Name, why)
		}
	}
	return nil
}

// foreign says what of credentials is not the user's; "" when all of it is.
func (u User) foreign(c image.Creds) string {
	for _, id := range c.UID {
		if id != u.UID {
			return fmt.Sprintf("runs as user %d, and you are %d", id, u.UID)
		}
	}
	for _, id := range c.GID {
		if id != u.GID {
			return fmt.Sprintf("runs as group %d, and yours is %d", id, u.GID)
		}
	}
	for _, id := range c.Groups {
		if id != u.GID && !slices.Contains(u.Groups, int(id)) {
			return fmt.Sprintf("is in group %d, and you are not", id)
		}
	}
	if c.Permitted|c.Effective|c.Inheritable|c.Ambient != 0 {
		return "has capabilities"
	}
	return ""
}
