package objectstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"relman/release"
)

// packless is a store of which no pack may be read, and of which looking one up
// may fail.
type packless struct {
	Store
	stat error
}

func (p packless) Get(ctx context.Context, key string, offset, length int64) (io.ReadCloser, error) {
	if len(key) > 6 && key[:6] == "packs/" {
		return nil, fmt.Errorf("%s was read", key)
	}
	return p.Store.Get(ctx, key, offset, length)
}

func (p packless) Stat(ctx context.Context, key string) (Info, error) {
	if p.stat != nil {
		return Info{}, p.stat
	}
	return p.Store.Stat(ctx, key)
}

// TestLook: what is missing or has another length is found and no pack is read
// for it; what rots is not found.
func TestLook(t *testing.T) {
	look := func(a *audited) *Audited {
		t.Helper()
		r, err := Look(t.Context(), packless{Store: a.m}, "www", a.kept)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := newAudited(t)
	if r, all := look(a), a.audit(); len(r.Faults) != 0 || r.Releases != 2 || r.Packs != all.Packs || r.Bytes != all.Bytes || r.Files != all.Files {
		t.Errorf("%+v\nwant %+v", r, all)
	}
	pack, _ := a.place(a.olds, "same.html")
	key := packKey(pack)
	a.set(key, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	if r := look(a); len(r.Faults) != 0 {
		t.Errorf("%+v, only an audit sees that", r.Faults)
	}
	a.set(key, func(b []byte) []byte { return b[:len(b)-1] })
	f := a.one(look(a), key, "published were")
	if f.Missing || f.Needs[0].Release != a.olds.Manifest.ID() {
		t.Errorf("%+v", f)
	}
	if err := a.m.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if f := a.one(look(a), key, ""); !f.Missing || f.Needs[0].Release != a.olds.Manifest.ID() {
		t.Errorf("%+v", f)
	}

	a = newAudited(t)
	layout := layoutKey("www", a.kept[1].ID)
	if err := a.m.Delete(t.Context(), layout); err != nil {
		t.Fatal(err)
	}
	if f := a.one(look(a), layout, ""); !f.Missing || !slices.Equal(needing(f), []release.ID{a.kept[1].ID}) {
		t.Errorf("%+v", f)
	}

	a = newAudited(t)
	if _, err := Look(t.Context(), packless{a.m, ErrUnavailable}, "www", a.kept); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a store that does not answer: %v", err)
	}
	if _, err := Look(t.Context(), NewMemory(), "www", a.kept); !errors.Is(err, ErrNotFound) {
		t.Errorf("another store: %v", err)
	}
}

func needing(f Fault) (ids []release.ID) {
	for _, n := range f.Needs {
		ids = append(ids, n.Release)
	}
	return ids
}
