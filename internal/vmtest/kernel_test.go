package vmtest

import (
	"slices"
	"testing"
)

func TestCompareVersions(t *testing.T) {
	names := []string{
		"linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-100-cloud-amd64",
	}
	if got := slices.MaxFunc(names, compareVersions); got != names[2] {
		t.Error(got)
	}
	if compareVersions("linux-image-6.12.9+deb12-cloud-amd64", "linux-image-6.12.117+deb12-cloud-amd64") >= 0 {
		t.Error("9 is not less than 117")
	}
}
