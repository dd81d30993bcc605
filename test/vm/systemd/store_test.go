//go:build linux && vmsystemd

package systemd

import (
	"path/filepath"
	"strings"

	"github.com/wakepoint/wakepoint/internal/vmtest"
)

// ownPartition gives a directory a partition of its own, /dev/vdb.
func (g *rig) ownPartition(place, options string) {
	g.t.Helper()
	image := filepath.Join(g.dir, "store")
	disk, err := vmtest.FormatDisk(image, 256<<20)
	if err != nil {
		g.t.Fatal(err)
	}
	disk.Close()
	g.images = []string{image}
	g.boot()
	g.must("mkdir -p " + place + " && echo '/dev/vdb " + place + " ext4 " + options + " 0 2' >>/etc/fstab && systemctl daemon-reload && mount " + place + " && chmod 700 " + place)
}

// store is where the store lies.
const store = "/var/lib/wakepoint"

// storeLate has the store on a disk that is not there when the machine boots:
// what does not need it is not held up, and once it is there what was running
// comes back.
func storeLate(g *rig) {
	g.ownPartition(store, "nofail,x-systemd.device-timeout=20min")
	g.protect("counter")
	count := g.promised("counter")
	driver := "/sys/bus/virtio/drivers/virtio_blk/"
	disk := strings.TrimSpace(g.must("basename $(readlink -f /sys/block/vdb/device)"))
	g.write("/etc/systemd/system/late.service", "[Unit]\nDefaultDependencies=no\nBefore=local-fs-pre.target systemd-udev-trigger.service systemd-udevd.service sysinit.target\n"+
		"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo "+disk+" >"+driver+"unbind'\n[Install]\nWantedBy=sysinit.target\n")
	g.must("systemctl enable late.service && sync")
	g.cut()
	g.power()
	g.until("systemctl is-active ssh.service && ssh root@localhost true")
	g.must("test ! -e /dev/vdb")
	g.refused("systemctl is-active wakepoint-recover.service", 3, "inactive")
	if out := g.show("systemctl --no-pager list-jobs"); !strings.Contains(out, "wakepoint-recover.service") {
		g.t.Error("nothing says that it waits")
	}
	g.show("wakepoint ps; wakepoint doctor | grep -e units -e store")
	g.must("echo " + disk + " >" + driver + "bind")
	g.until("systemctl is-active wakepoint-recover.service")
	count = g.goesOn("counter", count)
	g.must("wakepoint verify")

	g.must("sed -i 's/device-timeout=20min/device-timeout=5s/' /etc/fstab && sync")
	g.cut()
	g.boot()
	g.refused("systemctl --no-pager status wakepoint-recover.service", 3, "")
	if console := g.vm.Console(); !strings.Contains(console, "Dependency failed") {
		g.t.Errorf("the console does not say that nothing is brought back: %s", console)
	}
	g.must("echo " + disk + " >" + driver + "bind")
	g.must("udevadm settle; systemctl start var-lib-wakepoint.mount")
	g.until("systemctl is-active wakepoint-recover.service")
	g.goesOn("counter", count)
}

// storeReadOnly has the store mounted so that nothing can be written.
func storeReadOnly(g *rig) {
	g.ownPartition(store, "defaults")
	g.protect("counter")
	g.protect("second")
	count := g.promised("counter")
	g.must("sed -i '/vdb/s/defaults/ro/' /etc/fstab && sync")
	g.cut()
	g.boot()
	g.show("systemctl --no-pager status wakepoint-recover.service")
	if out := g.show("journalctl --no-pager -b -o cat -u wakepoint-recover.service; wakepoint ps"); !strings.Contains(out, "read-only") {
		g.t.Error("it does not say why nothing comes back")
	}
	g.show("wakepoint doctor | head -n 5")
	g.must("! pgrep -f '^program work'")
	g.must("mount -o remount,rw /var/lib/wakepoint && wakepoint recover")
	g.goesOn("counter", count)
	g.must("systemctl is-active wakepoint@counter.service wakepoint@second.service && wakepoint verify")
}

// groundMissing boots without a file system that one program writes to, and
// without the user of another: they wait, and come back by themselves.
func groundMissing(g *rig) {
	g.ownPartition("/srv/data", "noauto")
	g.protect("counter")
	g.must("wakepoint run -d --name far -- " + working("data/far"))
	g.must("mkdir /srv/theirs && chown user /srv/theirs && wakepoint run -d --name theirs -- setpriv --reuid=user --regid=user --clear-groups " + working("theirs"))
	counter, far, theirs := g.promised("counter"), g.count("data/far"), g.count("theirs")
	g.must("wakepoint checkpoint far && wakepoint checkpoint theirs")
	g.must("cp /etc/passwd /etc/passwd.whole && sed -i /^user:/d /etc/passwd && sync")
	g.cut()
	g.boot()
	g.show("systemctl --no-pager status wakepoint-recover.service; wakepoint ps; wakepoint status far; wakepoint status theirs")
	g.goesOn("counter", counter)
	g.refused("wakepoint status far", 0, "the file system at /srv/data is not mounted")
	g.must("test ! -e /srv/data/far")
	if s := g.status("theirs"); s.State != "waiting" {
		g.t.Errorf("without its user theirs is %s", s.State)
	}
	g.must("mount /srv/data && mv /etc/passwd.whole /etc/passwd")
	g.until("wakepoint status far | grep -q '^state *running' && wakepoint status theirs | grep -q '^state *running'")
	g.goesOn("data/far", far)
	g.goesOn("theirs", theirs)
	g.must("systemctl is-active wakepoint@far.service wakepoint@theirs.service && wakepoint verify")
}
