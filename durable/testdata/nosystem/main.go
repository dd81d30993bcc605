// Command nosystem opens a database without a file system, and with one.
package main

import (
	"context"
	"fmt"

	"github.com/wakepoint/wakepoint/durable"
	"github.com/wakepoint/wakepoint/durable/durabletest"
)

func main() {
	_, _, err := durable.Open(context.Background(), durable.Options{Dir: "state"})
	fmt.Println(err)
	disk := durabletest.NewDisk()
	n, err := count(disk, 7)
	if err == nil {
		n, err = count(disk, 0)
	}
	fmt.Println("with one:", n, err)
}

// count adds to what is on a disk, and returns it.
func count(disk durable.FS, more int) (n int, err error) {
	counts := durable.NewTable[string, int]("counts")
	db, _, err := durable.Open(context.Background(), durable.Options{Dir: "/state", FS: disk}, counts)
	if err != nil {
		return 0, err
	}
	err = db.Update(context.Background(), func(tx *durable.Tx) error {
		n, _ = counts.Get(tx, "n")
		n += more
		counts.Put(tx, "n", n)
		return nil
	})
	if err != nil {
		return 0, err
	}
	return n, db.Close()
}
