package storagetest

import (
	"os"
	"testing"
)

// Dir makes a folder with a short path, which is gone at the end of the test. Where the machine can it is in memory: a
// disk makes tests wait for what they do not need. Benchmarks get one on the disk.
func Dir(t testing.TB) string {
	t.Helper()
	parent := memory()
	if _, measures := t.(*testing.B); measures {
		parent = ""
	}
	dir, err := os.MkdirTemp(parent, "myelin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
