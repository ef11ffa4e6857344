package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"relman/cluster"
	"relman/release"
)

// www is the only site of the model.
const www release.Site = "www"

// cell is one key of the model's etcd. A key's revisions count its own changes:
// guards compare revisions only for equality, and never those of two keys, so the order of
// changes of different keys makes no other state.
type cell struct {
	value          int32 // in texts; 0: the key does not exist
	writes, create int32
}

// snapshot is one state of the model's etcd. It never changes.
type snapshot struct {
	cells []cell // by key
	pairs []cluster.Pair
	view  *cluster.View
	nodes map[cluster.Self]cluster.NodeView
}

// store has every state of etcd, every value and every transaction that was
// met, each once.
type store struct {
	keys    map[string]int
	names   []string
	values  map[string]int32
	texts   []string
	index   map[string]int32
	snaps   []*snapshot
	intents map[string]int32
	all     []*intent
	made    map[madeKey][]int32
}

func newStore() *store {
	s := &store{
		keys: map[string]int{}, values: map[string]int32{"\x00": 0}, texts: []string{""}, index: map[string]int32{},
		intents: map[string]int32{}, all: []*intent{nil}, made: map[madeKey][]int32{},
	}
	s.intern(nil)
	return s
}

func (st *store) key(name string) int {
	k, ok := st.keys[name]
	if !ok {
		k = len(st.names)
		st.keys[name], st.names = k, append(st.names, name)
	}
	return k
}

func (st *store) value(text string) int32 {
	v, ok := st.values[text]
	if !ok {
		v = int32(len(st.texts))
		st.values[text], st.texts = v, append(st.texts, text)
	}
	return v
}

// intern gives cells their number.
func (st *store) intern(cells []cell) int32 {
	for len(cells) > 0 && cells[len(cells)-1] == (cell{}) {
		cells = cells[:len(cells)-1]
	}
	code := make([]byte, 0, 6*len(cells))
	for _, c := range cells {
		code = binary.AppendUvarint(code, uint64(c.value))
		code = binary.AppendUvarint(code, uint64(c.writes))
		code = binary.AppendUvarint(code, uint64(c.create))
	}
	n, ok := st.index[string(code)]
	if !ok {
		n = int32(len(st.snaps))
		st.index[string(code)] = n
		st.snaps = append(st.snaps, &snapshot{cells: cells})
	}
	return n
}

// apply is etcd after some operations.
func (st *store) apply(at int32, ops []cluster.Op) int32 {
	cells := slices.Clone(st.snaps[at].cells)
	for _, o := range ops {
		k := st.key(o.Key)
		for len(cells) <= k {
			cells = append(cells, cell{})
		}
		c := &cells[k]
		if o.Delete {
			if c.value != 0 {
				*c = cell{writes: c.writes + 1}
			}
			continue
		}
		exists := c.value != 0
		c.value, c.writes = st.value(o.Value), c.writes+1
		if !exists {
			c.create = c.writes
		}
	}
	return st.intern(cells)
}

// put and drop are the hand of the model.
func (st *store) put(at int32, key string, v any) int32 {
	raw, bare := v.(string)
	if !bare {
		b, err := json.Marshal(v)
		if err != nil {
			panic(fmt.Sprintf("model: put %s: %v", key, err)) // plain structs only
		}
		raw = string(b)
	}
	return st.apply(at, []cluster.Op{{Key: key, Value: raw}})
}

func (st *store) drop(at int32, keys ...string) int32 {
	var ops []cluster.Op
	for _, k := range keys {
		ops = append(ops, cluster.Op{Key: k, Delete: true})
	}
	return st.apply(at, ops)
}

// get is a key's value, "" when it does not exist.
func (st *store) get(at int32, key string) string {
	if p := st.pair(at, key); p != nil {
		return p.Value
	}
	return ""
}

// mod is a key's revision, 0 when it does not exist.
func (st *store) mod(at int32, key string) int64 {
	if p := st.pair(at, key); p != nil {
		return p.Mod
	}
	return 0
}

func (st *store) has(at int32, key string) bool { return st.pair(at, key) != nil }

func (st *store) pair(at int32, key string) *cluster.Pair {
	k, known := st.keys[key]
	cells := st.snaps[at].cells
	if !known || k >= len(cells) || cells[k].value == 0 {
		return nil
	}
	return &cluster.Pair{Key: key, Value: st.texts[cells[k].value], Mod: int64(cells[k].writes), Create: int64(cells[k].create)}
}

// under is what a guard looks at.
func (st *store) under(at int32, g cluster.Guard) []cluster.Pair {
	if !g.Prefix {
		if p := st.pair(at, g.Key); p != nil {
			return []cluster.Pair{*p}
		}
		return nil
	}
	var some []cluster.Pair
	for _, p := range st.pairs(at) {
		if strings.HasPrefix(p.Key, g.Key) {
			some = append(some, p)
		}
	}
	return some
}

func (st *store) pairs(at int32) []cluster.Pair {
	s := st.snaps[at]
	if s.pairs == nil {
		for k, c := range s.cells {
			if c.value != 0 {
				s.pairs = append(s.pairs, cluster.Pair{
					Key: st.names[k], Value: st.texts[c.value], Mod: int64(c.writes), Create: int64(c.create),
				})
			}
		}
	}
	return s.pairs
}

func (st *store) view(at int32) *cluster.View {
	s := st.snaps[at]
	if s.view == nil {
		v, err := cluster.ViewOf(www, 0, st.pairs(at))
		if err != nil {
			panic(fmt.Sprintf("model: %v", err)) // only transactions of the program wrote it
		}
		s.view = v
	}
	return s.view
}

func (st *store) nodeView(at int32, self cluster.Self) *cluster.NodeView {
	s := st.snaps[at]
	v, ok := s.nodes[self]
	if !ok {
		var err error
		if v, err = cluster.NodeViewOf(www, self, 0, st.pairs(at)); err != nil {
			panic(fmt.Sprintf("model: %v", err))
		}
		if s.nodes == nil {
			s.nodes = map[cluster.Self]cluster.NodeView{}
		}
		s.nodes[self] = v
	}
	return &v
}
