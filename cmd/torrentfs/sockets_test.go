package main_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSocketsAreOpenedInOnePlace finds what would open a socket past package fetch/socket, and so past the device, the
// address and the proxy that the user wants.
func TestSocketsAreOpenedInOnePlace(t *testing.T) {
	openers := map[string][]string{
		"net": {
			"Dial", "DialTimeout", "DialTCP", "DialUDP", "DialIP", "Dialer", "Listen", "ListenTCP", "ListenUDP", "ListenPacket",
			"ListenMulticastUDP", "ListenConfig", "DefaultResolver", "Resolver", "LookupHost", "LookupIP", "LookupAddr",
			"LookupCNAME", "LookupMX", "LookupNS", "LookupSRV", "LookupTXT", "ResolveTCPAddr", "ResolveUDPAddr", "ResolveIPAddr",
		},
		"http": {"Get", "Head", "Post", "PostForm", "DefaultClient", "DefaultTransport", "ListenAndServe"},
		"tls":  {"Dial", "DialWithDialer", "Dialer", "Listen"},
	}
	elsewhere := []string{
		"fetch/socket", "fetch/fetchtest", "cmd/torrentfs/bench", "cmd/torrentfs/e2e",
		"cmd/torrentfs/swarm.go", // demo's tracker
	}
	root := filepath.Join("..", "..")
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || slices.ContainsFunc(elsewhere, func(e string) bool { return strings.HasPrefix(name, e) }) {
			return err
		}
		seen++
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := s.X.(*ast.Ident); ok && slices.Contains(openers[pkg.Name], s.Sel.Name) {
					t.Errorf("%v: %s.%s opens sockets of its own", files.Position(s.Pos()), pkg.Name, s.Sel.Name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil || seen < 100 {
		t.Fatalf("%d files, %v", seen, err)
	}
}
