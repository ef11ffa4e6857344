package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func worldNamed(t *testing.T, name string) *world {
	t.Helper()
	for _, w := range worlds() {
		if w.name == name {
			return w
		}
	}
	t.Fatalf("there is no world %q", name)
	return nil
}

// TestModel explores a very small world in full, and finds a guard that is
// deleted there, with the shortest way to what breaks.
func TestModel(t *testing.T) {
	w := worldNamed(t, "flip and freeze")
	r, met := explore(w, newStore(), nil, nothing, false, 10_000)
	if !r.complete || len(r.broken) > 0 || r.states < 100 {
		t.Fatalf("%s\n%s", r.line(), r.words())
	}
	const guard = "Flip: freeze absent"
	if !met[guard] {
		t.Fatalf("no flip with its guard of the freeze: %v", met)
	}
	r, _ = explore(w, newStore(), map[guardID]bool{guard: true}, nothing, false, 10_000)
	if !slices.Contains(r.broken, "I6 Flip while a freeze stands") || len(r.trace) != 7 {
		t.Errorf("without %s: %s", guard, r.words())
	}
}

// TestModel_misdeed finds what a node does wrong, with all guards in place.
func TestModel_misdeed(t *testing.T) {
	r, _ := explore(worldNamed(t, "flip and verdict"), newStore(), nil, claimUnverified, false, 10_000)
	if !slices.Contains(r.broken, "I5 a claim is not true on its disk") {
		t.Errorf("%s\n%s", r.line(), r.words())
	}
}

// TestModel_all: every function of package cluster that makes a transaction is
// in some world.
func TestModel_all(t *testing.T) {
	made := map[string]bool{}
	for _, w := range worlds() {
		if w.large {
			continue
		}
		r, _ := explore(w, newStore(), nil, nothing, false, 700)
		maps.Copy(made, r.kinds)
	}
	files, err := filepath.Glob("../../cluster/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of package cluster: %v", err)
	}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if name := makesTxn(d); name != "" && !made[name] && !strings.HasSuffix(f, "_test.go") {
				t.Errorf("%s makes a transaction, and no world has it", name)
			}
		}
	}
}

// makesTxn is the name of an exported function that returns a Txn, "" of all
// else.
func makesTxn(d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil {
		return ""
	}
	for _, r := range f.Type.Results.List {
		if id, ok := r.Type.(*ast.Ident); ok && id.Name == "Txn" {
			return f.Name.Name
		}
	}
	return ""
}
