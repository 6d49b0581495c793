package dht

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "dht")
	if s, err := load(path); err != nil || !reflect.DeepEqual(s, saved{}) {
		t.Errorf("no file: %+v, %v", s, err)
	}
	s := saved{
		id:    [2]string{theirID, strings.Repeat("6", idSize)},
		nodes: [2][]contact{{at(1, "198.51.100.1:1"), at(2, "127.0.0.1:2")}, {at(3, "[2001:db8::1]:3")}},
	}
	for range 2 { // the second time over the first
		if err := s.save(path); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := load(path); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("got %+v, %v", got, err)
	}
	files, _ := os.ReadDir(filepath.Dir(path))
	if len(files) != 1 {
		t.Errorf("%d files left behind", len(files)-1)
	}
	for name, content := range map[string]string{
		"empty": "", "junk": "junk", "cut off": string(s.encode()[:50]), "large": strings.Repeat("x", maxTable+1),
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := load(path); err == nil || !reflect.DeepEqual(got, saved{}) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
		n := node(t, Config{TablePath: path}) // does without
		n.Close()
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%s: written over by a node that met nobody", name)
		}
	}
	if err := s.save("/dev/null/x"); err == nil {
		t.Error("saved where nothing can be")
	}
}

// TestTableIsOneNodes has the first of the nodes that share a table have its id and keep it, and the others begin with what
// it has.
func TestTableIsOneNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dht")
	s := saved{id: [2]string{theirID, strings.Repeat("6", idSize)}, nodes: [2][]contact{{at(1, "127.0.0.1:1")}, nil}}
	if err := s.save(path); err != nil {
		t.Fatal(err)
	}
	idOf := func(n *Node) string {
		id := n.families[0].session.Load().id
		return string(id[:])
	}
	first := node(t, Config{TablePath: path})
	if idOf(first) != theirID {
		t.Errorf("the first has id %x", idOf(first))
	}
	second, third := node(t, Config{TablePath: path}), node(t, Config{TablePath: path})
	if len(map[string]bool{idOf(first): true, idOf(second): true, idOf(third): true}) != 3 {
		t.Errorf("ids %x, %x and %x", idOf(first), idOf(second), idOf(third))
	}
	if n := second.Stats().Nodes; n != 1 {
		t.Errorf("the second begins with %d nodes", n)
	}
	eventually(t, "they know each other", func() bool {
		second.AddNodes([]string{addrOf(first), addrOf(third)})
		return second.Stats().Up == 2
	})
	second.Close()
	if got, err := load(path); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("the second has saved %+v, %v", got, err)
	}
	first.Close()
	if again := node(t, Config{TablePath: path}); idOf(again) != theirID {
		t.Errorf("after the first was closed, one has id %x", idOf(again))
	}
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	node(t, Config{TablePath: filepath.Join(blocked, "dht")}) // does without
}

func FuzzTable(f *testing.F) {
	s := saved{id: [2]string{theirID, theirID}, nodes: [2][]contact{{at(1, "198.51.100.1:1")}, {at(3, "[2001:db8::1]:3")}}}
	f.Add(s.encode())
	f.Add([]byte("de"))
	f.Add([]byte("le"))
	f.Add([]byte("d2:id1:x5:nodes3:xxxe"))
	f.Add([]byte("d5:nodes26:" + strings.Repeat("\x00", 26) + "6:nodes638:" + strings.Repeat("\x00", 38) + "e"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseTable(b)
		if err != nil {
			return
		}
		for i, nodes := range s.nodes {
			if len(nodes) > maxRestored || len(s.id[i]) != 0 && len(s.id[i]) != idSize {
				t.Errorf("%q gave %+v", b, s)
			}
			for _, c := range nodes {
				if !sendable(c.addr) || c.addr.Addr().Is6() != (i == 1) {
					t.Errorf("%q gave a node at %v", b, c.addr)
				}
			}
		}
		again, err := parseTable(s.encode())
		if err != nil || !reflect.DeepEqual(again, s) || !bytes.Equal(again.encode(), s.encode()) {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}
