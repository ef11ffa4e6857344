package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"relman/release"
)

// Op is one change of a transaction: Value is put at Key, or Key is deleted.
type Op struct {
	Key    string
	Value  string
	Delete bool
	// Leased puts the key under the lease of the session that commits.
	Leased bool
}

func put(key string, v any) Op     { return Op{Key: key, Value: encode(v)} }
func putBare(key, value string) Op { return Op{Key: key, Value: value} }
func remove(key string) Op         { return Op{Key: key, Delete: true} }
func (o Op) leased() Op            { o.Leased = true; return o }

// Txn is a guarded transaction as data. It commits whole, at one revision at
// which every guard holds, or changes nothing.
//
// After an unknown outcome the same Txn is sent again, never another one: Mark
// is a key and value that only this very intention writes, so that a copy that
// finds it knows that an earlier copy committed.
type Txn struct {
	Name   string // for errors and logs: "flip www to 000042-…"
	Guards []Guard
	Ops    []Op
	Mark   *Op // one of Ops; nil when the ops are idempotent
}

// Fence is the guard that only the leader passes: its own election key still
// is the one it was elected with. Since the oldest key leads and keys leave
// only by resignation or expiry, it leads at the revision of the commit.
type Fence struct {
	Key    string
	Create int64
}

func (f Fence) guard() Guard { return created(f.Key, f.Create, ClassNotLeader) }

// markLast makes the last op the one by which the transaction is recognised.
func (t Txn) markLast() Txn {
	t.Mark = &t.Ops[len(t.Ops)-1]
	return t
}

// CreateSite is T0: the site, its first policy and its place in the catalog.
func CreateSite(site release.Site, p Policy, catalog Entry[Catalog]) Txn {
	c := Catalog{Sites: append(append([]release.Site{}, catalog.Value.Sites...), site)}
	return Txn{
		Name: "create site " + string(site),
		Guards: []Guard{
			absent(ConfigKey(site), ClassExists),
			unchanged(CatalogKey, catalog.Mod, ClassConflict),
		},
		Ops: []Op{
			put(CatalogKey, c),
			put(RosterKey(site), Roster{V: 1, Why: "site created"}),
			putBare(SeqKey(site), "0"),
			put(ServingKey(site), DefaultServing()),
			putBare(SecretKey(site), newSecret()),
			put(ConfigKey(site), p),
		},
	}
}

// Register is T1: the release is complete in the store, and from now on part
// of the site. gc was read, idle, before the first look at the store: since then no
// sweep has begun.
func Register(site release.Site, seq Entry[uint64], gc Entry[GC], id release.ID, r ReleaseRecord) Txn {
	return Txn{
		Name: fmt.Sprintf("register %s of %s", id, site),
		Guards: []Guard{
			unchanged(SeqKey(site), seq.Mod, ClassConflict),
			absent(ReleaseKey(site, id), ClassExists),
			unchanged(GCKey, gc.Mod, ClassSweeping),
			present(UploadKey(site, r.Request), ClassUploadExpired),
		},
		Ops: []Op{
			putBare(SeqKey(site), strconv.FormatUint(seq.Value+1, 10)),
			put(ReleaseKey(site, id), r),
		},
	}.markLast()
}

// Request is T2: asks for something, on the ground of what v shows. It is
// refused when anything was asked for, or flipped, since v was read. A request
// that is still under way is replaced; whether it may be is for the caller to
// decide (View.Done).
func Request(v *View, d Desired) Txn {
	if !v.Done() {
		d.Replaces = replaced(v)
	}
	d = d.seen(v)
	t := Txn{
		Name: fmt.Sprintf("ask for %s of %s", d.Mode, v.Site),
		Guards: []Guard{
			unchanged(DesiredKey(v.Site), v.Desired.Mod, ClassConflict),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
		},
		Ops: []Op{put(DesiredKey(v.Site), d)},
	}
	if !d.takesBack() {
		t.Guards = append(t.Guards, present(ReleaseKey(v.Site, d.Release), ClassReleaseGone), verdictGuard(v, d))
	}
	if d.Mode != Abort {
		t.Name += " " + string(d.Release)
		t.Guards = append(t.Guards, freezeGuard(v, d))
	}
	return t.markLast()
}

// mostReplaced bounds what one transaction of the leader has to end: etcd takes
// 128 operations. Only a cluster that has been without a leader for more than
// so many requests forgets the oldest.
const mostReplaced = 100

// replaced are the requests, oldest first, that a new one puts an end to.
func replaced(v *View) []RequestID {
	all := others(v)
	if !v.Done() {
		all = append(all, v.Desired.Value.Request)
	}
	return all[max(0, len(all)-mostReplaced):]
}

// others are the requests, oldest first, that the one of v has to end beside
// itself. What a publisher wrote there may be wrong: etcd takes no transaction
// that writes a key twice, and the site would be stuck.
func others(v *View) (all []RequestID) {
	d := v.Desired.Value
	for _, r := range d.Replaces[max(0, len(d.Replaces)-mostReplaced):] {
		if _, done := v.Results[r]; !done && r != d.Request && !slices.Contains(all, r) {
			all = append(all, r)
		}
	}
	return all
}

// openGuard: the request has no result yet. A request that has ended stays
// ended: a copy of a flip that was refused, by a freeze say, and comes once more
// when the freeze is gone must not carry it out after all.
func openGuard(v *View) Guard {
	return absent(ResultKey(v.Site, v.Desired.Value.Request), ClassConflict)
}

// freezeGuard: no freeze, or the very one that does not forbid what is asked
// for: it allows rollbacks, or is overridden.
func freezeGuard(v *View, d Desired) Guard {
	if v.Freeze.Exists() && !v.Frozen(d) {
		return unchanged(FreezeKey(v.Site), v.Freeze.Mod, ClassFrozen)
	}
	return absent(FreezeKey(v.Site), ClassFrozen)
}

// verdictGuard: no verdict on what is asked for, or the very one that is
// overridden.
func verdictGuard(v *View, d Desired) Guard {
	key := VerdictKey(v.Site, d.Release)
	if verdict, ok := v.Verdicts[d.Release]; ok && v.Judged(d) == "" {
		return unchanged(key, verdict.Mod, ClassYanked)
	}
	return absent(key, ClassYanked)
}

// StartRollout is T3: tells every node to fill a buffer. A rollout that v shows
// is replaced.
func StartRollout(f Fence, v *View, r Rollout) Txn {
	d := v.Desired.Value
	t := Txn{
		Name: fmt.Sprintf("start the rollout of %s on %s", r.Release, v.Site),
		Guards: []Guard{
			f.guard(),
			unchanged(DesiredKey(v.Site), v.Desired.Mod, ClassConflict),
			openGuard(v),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
			unchanged(ConfigKey(v.Site), v.Policy.Mod, ClassPolicyChanged),
			freezeGuard(v, d),
			verdictGuard(v, d),
		},
		Ops: supersede(v, r.Started),
	}
	t.Ops = append(t.Ops, put(RolloutKey(v.Site), r))
	return t.markLast()
}

// supersede ends the requests that the site's newest request took the place of.
func supersede(v *View, at time.Time) []Op {
	d := v.Desired.Value
	r := Result{State: StateSuperseded, At: at, Error: &ErrorInfo{
		Class: ClassSuperseded, Text: fmt.Sprintf("request %s of %s (%s) took its place", d.Request, d.By, d.Mode),
	}}
	if d.Mode == Abort {
		r.State, r.Error = StateAborted, &ErrorInfo{Class: ClassAborted, Text: fmt.Sprintf("aborted by %s (request %s)", d.By, d.Request)}
	}
	var ops []Op
	for _, id := range others(v) {
		ops = append(ops, put(ResultKey(v.Site, id), r))
	}
	return ops
}

// Flip is T6, T7 for a rollback, and T13 to T15 for a canary: the one write of the
// active key. Every claim on the buffer of what is shown anew equals its release at
// the revision of the commit, nobody was removed and nothing was asked for,
// aborted, frozen or judged since v was read. a.Epoch is one more than before; the
// flip ends the request of v and whatever rollout was in flight.
//
// To take a canary back needs no claims: all hold what is active.
func Flip(f Fence, v *View, a Active) Txn {
	d := v.Desired.Value
	a.Leader = f.Create
	t := Txn{
		Name: fmt.Sprintf("flip %s to %s", v.Site, a.Release),
		Guards: []Guard{
			f.guard(),
			unchanged(ActiveKey(v.Site), v.Active.Mod, ClassActiveMoved),
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
			unchanged(DesiredKey(v.Site), v.Desired.Mod, ClassConflict),
			openGuard(v),
			freezeGuard(v, d),
		},
		Ops: supersede(v, a.At),
	}
	made, shows := a.made(d.Mode)
	if shows {
		t.Guards = append(t.Guards,
			verdictGuard(v, d),
			created(ReleaseKey(v.Site, made.Release), v.Releases[made.Release].Create, ClassReleaseGone),
			unchanged(ConfigKey(v.Site), v.Policy.Mod, ClassPolicyChanged),
			unchanged(RosterKey(v.Site), v.Roster.Mod, ClassRosterChanged),
			everyValueIs(ClaimsPrefix(v.Site, made.Buffer), string(made.Release), ClassNotReady),
		)
		t.Guards = append(t.Guards, v.liveGuards(made.Buffer, made.Release)...)
	}
	history := put(HistoryKey(v.Site, a.Epoch), a)
	t.Ops = append(t.Ops,
		remove(RolloutKey(v.Site)),
		history,
		put(ResultKey(v.Site, a.Request), resultOf(a, d.Mode)),
	)
	if d.Mode == EndCanary {
		why := fmt.Sprintf("%s its canary was ended by %s", Bad, d.By)
		if d.Message != "" {
			why += ": " + d.Message
		}
		t.Ops = append(t.Ops, putBare(VerdictKey(v.Site, d.Release), why))
	}
	t.Ops = append(t.Ops, freezes(v, d, a)...)
	t.Ops = append(t.Ops, put(ActiveKey(v.Site), a))
	// Not the active key, which a later flip may have written before the
	// outcome of this one is known.
	t.Mark = &history
	return t
}

// freezes is the freeze that a request asks its flip to make. One without an end stays
// as it is; of another one the reason is not lost.
func freezes(v *View, d Desired, a Active) []Op {
	z := v.Freeze
	if !d.Freeze || z.Exists() && z.Value.Until.IsZero() {
		return nil
	}
	why := fmt.Sprintf("rolled back to %s", a.Release)
	if d.Message != "" {
		why += ": " + d.Message
	}
	if z.Exists() {
		why += fmt.Sprintf(" (it was frozen until %s by %s: %s)", z.Value.Until.UTC().Format(time.RFC3339), z.Value.By, z.Value.Reason)
	}
	return []Op{put(FreezeKey(v.Site), Freeze{By: d.By, At: a.At, AllowRollback: true, Reason: why})}
}

// resultOf is what a request is told that a has carried out.
func resultOf(a Active, mode Kind) Result {
	r := Result{State: StateActive, Release: a.Release, Epoch: a.Epoch, Changed: true, At: a.At}
	if mode == TryOut {
		r.State, r.Release = StateCanary, a.Canary.Release
	}
	return r
}

// End is T8 and every other end of a request without a flip: the request that
// v shows gets its result, and the rollout in flight goes.
func End(f Fence, v *View, r Result) Txn {
	d := v.Desired.Value
	t := Txn{
		Name: fmt.Sprintf("end request %s of %s as %s", d.Request, v.Site, r.State),
		Guards: []Guard{
			f.guard(),
			unchanged(DesiredKey(v.Site), v.Desired.Mod, ClassConflict),
			openGuard(v),
			unchanged(RolloutKey(v.Site), v.Rollout.Mod, ClassRolloutChanged),
		},
		Ops: supersede(v, r.At),
	}
	if v.Rollout.Exists() {
		t.Ops = append(t.Ops, remove(RolloutKey(v.Site)))
	}
	t.Ops = append(t.Ops, put(ResultKey(v.Site, d.Request), r))
	return t.markLast()
}

// Admit is T10: a live node that asked to join becomes a member, or one that was
// put out becomes one again.
func Admit(f Fence, v *View, n release.NodeID) Txn {
	t := Txn{
		Name: fmt.Sprintf("admit %s to %s", n, v.Site),
		Guards: []Guard{
			f.guard(),
			unchanged(MemberKey(v.Site, n), v.Members[n].Mod, ClassConflict),
			unchanged(ConfigKey(v.Site), v.Policy.Mod, ClassPolicyChanged),
			absent(CordonKey(v.Site, n), ClassConflict),
			present(LiveKey(n), ClassNotLive),
			present(JoinKey(n), ClassNotLive),
		},
		Ops: []Op{putBare(MemberKey(v.Site, n), string(MemberIn))},
	}
	if v.Policy.Value.Admission == AdmitApproved && !v.Members[n].Exists() {
		t.Guards = append(t.Guards, present(ApprovalKey(v.Site, n), ClassNotMember))
	}
	return t
}

// TrimHistory removes what is older than the last `keep` epochs and the
// results beyond those kept; it is never part of a flip.
func TrimHistory(f Fence, site release.Site, keys []string) Txn {
	t := Txn{Name: "trim the history of " + string(site), Guards: []Guard{f.guard()}}
	for _, k := range keys {
		t.Ops = append(t.Ops, remove(k))
	}
	return t
}

// NoteTold writes down of which epoch the leader's post-converge hook was told,
// so that no later leader tells it of that one again.
func NoteTold(f Fence, v *View, epoch release.Epoch) Txn {
	return Txn{
		Name: fmt.Sprintf("note that the hook of %s was told of epoch %d", v.Site, epoch),
		Guards: []Guard{
			f.guard(),
			unchanged(ToldKey(v.Site), v.Told.Mod, ClassConflict),
		},
		Ops: []Op{putBare(ToldKey(v.Site), strconv.FormatUint(uint64(epoch), 10))},
	}.markLast()
}

// SetFreeze is T12: forbids flips, or allows them again when z is nil.
func SetFreeze(site release.Site, now Entry[Freeze], z *Freeze) Txn {
	t := Txn{
		Name:   "freeze " + string(site),
		Guards: []Guard{unchanged(FreezeKey(site), now.Mod, ClassConflict)},
	}
	if z == nil {
		t.Name = "unfreeze " + string(site)
		t.Ops = []Op{remove(FreezeKey(site))}
		return t
	}
	t.Ops = []Op{put(FreezeKey(site), z)}
	return t.markLast()
}
