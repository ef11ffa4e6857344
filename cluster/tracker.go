package cluster

import (
	"bytes"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// tracker knows the newest state of a few keys, from a watch and, since a
// watch alone is never trusted, from reads now and then (rule N7).
type tracker struct {
	keys []string
	news chan struct{} // holds one when there may be news for deliver

	mu       sync.Mutex // guards what follows, never while a callback runs
	states   []keyState
	revision int64         // the newest that any key is known of
	asked    time.Duration // by Boottime, when the newest of the reads began
	lived    time.Duration // and of those that found the reader's session
}

// keyState is what is known of one key.
type keyState struct {
	kv    *mvccpb.KeyValue // nil: it does not exist
	at    int64            // known to be so at this revision
	heard int64            // revision of the last event that the watch delivered
	owed  int64            // a read found what the watch has to deliver from here on; 0: nothing
}

func newTracker(keys ...string) *tracker {
	return &tracker{keys: keys, news: make(chan struct{}, 1), states: make([]keyState, len(keys))}
}

// event takes over what a watch says.
func (t *tracker) event(e *clientv3.Event) {
	kv, rev, exists := kvOf(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, key := range t.keys {
		s := &t.states[i]
		if key != string(kv.Key) {
			continue
		}
		s.heard = max(s.heard, rev)
		if rev <= s.at { // older than a read
			continue
		}
		s.kv, s.at = nil, rev
		if exists {
			s.kv = kv
		}
		t.revision = max(t.revision, rev)
		t.tell()
	}
}

// reset takes over a read as the whole truth, also when it is older than what
// was known: etcd may have been restored from a backup.
func (t *tracker) reset(r *clientv3.TxnResponse, asked time.Duration, lives bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.keys {
		t.states[i] = keyState{kv: only(ranged(r, i)), at: r.Header.Revision, heard: r.Header.Revision}
	}
	t.revision = r.Header.Revision
	t.note(asked, lives)
}

// newest is the newest revision that is known of.
func (t *tracker) newest() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revision
}

// compare takes over what a read found newer than the watch, notes that the
// watch still owes it, and reports whether it owes anything.
func (t *tracker) compare(r *clientv3.TxnResponse, asked time.Duration, lives bool) (owed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.keys {
		s, kv := &t.states[i], only(ranged(r, i))
		if r.Header.Revision <= s.at {
			continue // an event came in meanwhile
		}
		if !sameKey(kv, s.kv) {
			// A put is owed at its revision; a deletion at any later than what
			// was known.
			s.owed = s.at + 1
			if kv != nil {
				s.owed = kv.ModRevision
			}
			s.kv, owed = kv, true
		}
		s.at = r.Header.Revision
	}
	t.revision = max(t.revision, r.Header.Revision)
	t.note(asked, lives)
	return owed
}

// note notes a read, with the lock.
func (t *tracker) note(asked time.Duration, lives bool) {
	t.asked = asked
	if lives {
		t.lived = asked
	}
	t.tell()
}

// unpaid counts what a read had found and the watch has not delivered since.
func (t *tracker) unpaid() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.states {
		s := &t.states[i]
		if s.owed != 0 && s.heard < s.owed {
			n++
		}
		s.owed = 0
	}
	return n
}

func (t *tracker) tell() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// state is the newest of all keys, and when the last read of them began.
func (t *tracker) state() (revision int64, kvs []*mvccpb.KeyValue, asked, lived time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.states {
		kvs = append(kvs, s.kv)
	}
	return t.revision, kvs, t.asked, t.lived
}

func only(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	for _, kv := range kvs {
		return kv
	}
	return nil
}

func modOf(kv *mvccpb.KeyValue) int64 {
	if kv == nil {
		return 0
	}
	return kv.ModRevision
}

// sameKey reports whether a key is as it was. A revision alone does not tell:
// etcd that was restored from a copy comes by it a second time.
func sameKey(a, b *mvccpb.KeyValue) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.ModRevision == b.ModRevision && bytes.Equal(a.Value, b.Value)
}
