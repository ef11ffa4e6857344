package main

import (
	"relman/release"
)

// torn is what a tree holds whose writes a crash has cut off.
const torn release.ID = "torn"

// tree is one directory of a node's disk. What the process sees and what a crash
// leaves differ until a sync.
type tree struct {
	manifest release.ID // what it is, as the manifest beside it says; written durably or not at all
	content  release.ID // what its bytes are, as the process reads them
	synced   release.ID // what they are after a crash
	rotten   bool       // some of its bytes have changed since it was verified
}

// disk is a node's disk. What was applied is remembered, durably.
type disk struct {
	trees   []*tree
	release release.ID
	epoch   release.Epoch
}

// crash loses what was not synced. A part of it may have been written all the
// same.
func (d *disk) crash(w *world) {
	for i := range d.trees {
		t := d.trees[i]
		if t.content == t.synced {
			continue
		}
		w.sum.LostWrites++
		t.content = torn
		if w.odds(1, 4) {
			t.content = t.synced
		}
		t.synced = t.content
	}
}

// wipe makes it a new disk.
func (d *disk) wipe() {
	n := len(d.trees)
	*d = disk{}
	d.grow(n)
}

// grow makes it at least n trees.
func (d *disk) grow(n int) {
	for len(d.trees) < n {
		d.trees = append(d.trees, &tree{})
	}
}

// sound reports whether a tree is, and will be after a crash, what it says.
func (t *tree) sound() bool {
	return t.manifest != "" && t.content == t.manifest && t.synced == t.manifest
}

// backs reports whether the disk backs a claim, but for what rots.
func (d *disk) backs(id release.ID) bool {
	for i := range d.trees {
		if t := d.trees[i]; t.manifest == id && (t.sound() || t.rotten) {
			return true
		}
	}
	return false
}
