package manager

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// The race of sweeps with publishers, flips and each other, by simulation: each
// schedule is a random interleaving of step machines, one etcd transaction or
// one request to the store per step, with time in between. Transactions are
// evaluated as they are; what a sweep keeps is said by fate, what a leader does
// by decide. Two kinds of objects stand for all: packs, which releases share,
// and one per release that says which packs it has.
//
// RELMAN_SIM_SEED replays one schedule and tells it, RELMAN_SIM_SCHEDULES says
// how many are run.

// simBug is a planted mistake.
type simBug int

const (
	noBug             simBug = iota
	lateGC                   // the gc key is read just before T1
	noWait                   // the marker is put up during a sweep, and its gc key taken
	oldFinds                 // after a refused T1, what was found in the store is believed
	t1NoGC                   // T1 without its gc guard
	t1NoMarker               // T1 without its marker guard
	t1Neither                // T1 with neither
	t17aNoUploads            // T17a beside publishers
	t17aNoUploadsLate        // the same, and lateGC
	forgetNoDesired          // T17b without its desired guard
	forgetNoActive           // T17b without its active guard
	forgetNoRollout          // T17b without its rollout guard
	hastyTakeOver            // a sweep is taken over at once
	noHold                   // deletions by who does not hold
	objectsFirst             // objects go before the record
	forgottenView            // fate decides on a view from before T17a
)

type sim struct {
	rnd     *rand.Rand
	bug     simBug
	tell    func(format string, args ...any) // nil: silent
	now     time.Time
	rev     int64
	pairs   map[string]cluster.Pair
	read    map[string]any // values that were read before
	objects map[string]time.Time
	packs   map[release.ID][]string // what each release ever made has
	flying  []simDelete
	seqs    int // of requests
	keep    int
	grace   time.Duration
	actors  []simActor

	steps                                            int
	checkedRev                                       int64 // broken has seen this revision,
	checkedObjects                                   int   // and so many deletions
	registered, forgotten, deleted, takeovers, flips int
}

// simDelete is a deletion on its way.
type simDelete struct {
	key string
	at  time.Time
}

// simActor is a step machine.
type simActor interface {
	// step does one thing, and reports whether there is nothing more to do.
	step(s *sim) (done bool)
}

const simSite release.Site = "www"

func newSim(seed uint64, bug simBug) *sim {
	s := &sim{
		rnd: rand.New(rand.NewPCG(seed, 7)), bug: bug, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), rev: 1,
		pairs: map[string]cluster.Pair{}, read: map[string]any{}, objects: map[string]time.Time{}, packs: map[release.ID][]string{},
	}
	s.keep = s.rnd.IntN(3)
	s.grace = []time.Duration{0, 0, 30 * time.Second}[s.rnd.IntN(3)]
	self := selfOf("n1")
	s.set(cluster.ConfigKey(simSite), cluster.DefaultPolicy())
	s.set(cluster.RosterKey(simSite), cluster.Roster{V: 1})
	s.setBare(cluster.SeqKey(simSite), "4")
	s.setBare(cluster.MemberKey(simSite, self.Node), string(cluster.MemberIn))
	s.set(cluster.LiveKey(self.Node), self.Live)
	s.set(cluster.JoinKey(self.Node), cluster.Join{Group: self.Group})
	s.setBare(simFence, "m")
	var ids []release.ID
	for seq := range uint64(4) { // the last of them is active, the third was
		id := s.upload(seq+1, s.wish())
		ids = append(ids, id)
		s.set(cluster.ReleaseKey(simSite, id), cluster.ReleaseRecord{Created: s.now, Request: "R0"})
		s.pass(time.Minute)
	}
	for range s.rnd.IntN(4) { // what publishers left that died
		s.objects[fmt.Sprint("p", s.rnd.IntN(simPacks))] = s.now
	}
	s.pass(time.Minute)
	for k, id := range []release.ID{ids[3], ids[2], ids[s.rnd.IntN(4)]} {
		s.setBare(cluster.ClaimKey(simSite, k, self.Group, self.Node), string(id))
	}
	s.set(cluster.ActiveKey(simSite), cluster.Active{Release: ids[3], Epoch: 1, Previous: &cluster.Held{Release: ids[2], Buffer: 1}})
	for range 2 + s.rnd.IntN(2) {
		s.actors = append(s.actors, &simPublisher{want: s.wish()}, &simSweeper{})
	}
	s.actors = append(s.actors, &simLeader{}, &simNode{self: self}, &simOperator{}, &simOperator{})
	return s
}

const (
	simPacks = 7
	simFence = cluster.ElectionPrefix + "/m"
)

// wish is a random set of packs.
func (s *sim) wish() []string {
	var want []string
	for _, i := range s.rnd.Perm(simPacks)[:1+s.rnd.IntN(3)] {
		want = append(want, fmt.Sprint("p", i))
	}
	return want
}

// upload puts all of a release into the store at once.
func (s *sim) upload(seq uint64, packs []string) release.ID {
	id := release.NewID(seq, release.Sum([]byte(fmt.Sprint(seq, packs))))
	s.packs[id] = packs
	for _, p := range append(packs[:len(packs):len(packs)], "rel/"+string(id)) {
		if _, ok := s.objects[p]; !ok {
			s.objects[p] = s.now
		}
	}
	return id
}

func (s *sim) pass(d time.Duration) { s.now = s.now.Add(d) }

func (s *sim) set(key string, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	s.setBare(key, string(raw))
}

func (s *sim) setBare(key, value string) { s.apply([]cluster.Op{{Key: key, Value: value}}) }

func (s *sim) apply(ops []cluster.Op) {
	s.rev++
	for _, o := range ops {
		if o.Delete {
			delete(s.pairs, o.Key)
			continue
		}
		create := s.rev
		if old, ok := s.pairs[o.Key]; ok {
			create = old.Create
		}
		s.pairs[o.Key] = cluster.Pair{Key: o.Key, Value: o.Value, Mod: s.rev, Create: create}
	}
}

// commit is a transaction; without is the key of a guard that a bug leaves out.
// It returns the class of the guard that refuses.
func (s *sim) commit(t cluster.Txn, without ...string) cluster.Class {
	for _, g := range t.Guards {
		if slices.Contains(without, g.Key) {
			continue
		}
		var pairs []cluster.Pair
		if !g.Prefix {
			if p, ok := s.pairs[g.Key]; ok {
				pairs = append(pairs, p)
			}
		} else {
			for k, p := range s.pairs {
				if strings.HasPrefix(k, g.Key) {
					pairs = append(pairs, p)
				}
			}
		}
		if !g.Holds(pairs) {
			s.say("%s: refused, %s", t.Name, g.Class)
			return g.Class
		}
	}
	s.apply(t.Ops)
	s.say("%s: committed at %d", t.Name, s.rev)
	return ""
}

func (s *sim) say(format string, args ...any) {
	if s.tell != nil {
		s.tell("%8.1f  "+format, append([]any{s.now.Sub(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)).Seconds()}, args...)...)
	}
}

// simRead reads a key.
func simRead[T any](s *sim, key string) cluster.Entry[T] {
	p, ok := s.pairs[key]
	if !ok {
		return cluster.Entry[T]{}
	}
	e := cluster.Entry[T]{Mod: p.Mod, Create: p.Create}
	if have, ok := s.read[p.Value].(T); ok {
		e.Value = have
		return e
	}
	if err := json.Unmarshal([]byte(p.Value), &e.Value); err != nil {
		panic(fmt.Sprintf("read %s: %v", key, err))
	}
	s.read[p.Value] = e.Value
	return e
}

func (s *sim) view() *cluster.View {
	v := &cluster.View{
		Site: simSite, Revision: s.rev,
		Active:   simRead[cluster.Active](s, cluster.ActiveKey(simSite)),
		Rollout:  simRead[cluster.Rollout](s, cluster.RolloutKey(simSite)),
		Desired:  simRead[cluster.Desired](s, cluster.DesiredKey(simSite)),
		Policy:   simRead[cluster.Policy](s, cluster.ConfigKey(simSite)),
		Roster:   simRead[cluster.Roster](s, cluster.RosterKey(simSite)),
		Seq:      simRead[uint64](s, cluster.SeqKey(simSite)),
		GC:       simRead[cluster.GC](s, cluster.GCKey),
		Releases: map[release.ID]cluster.Entry[cluster.ReleaseRecord]{},
		Results:  map[cluster.RequestID]cluster.Result{},
		Members:  map[release.NodeID]cluster.Entry[cluster.Member]{"n1": {Value: cluster.MemberIn, Mod: 1, Create: 1}},
		Joins:    map[release.NodeID]cluster.Join{},
		Live:     map[release.NodeID]cluster.Live{},
	}
	for k := range s.pairs {
		rest := strings.TrimPrefix(k, cluster.SitePrefix(simSite))
		switch kind, name, _ := strings.Cut(rest, "/"); kind {
		case "releases":
			v.Releases[release.ID(name)] = simRead[cluster.ReleaseRecord](s, k)
		case "results":
			v.Results[cluster.RequestID(name)] = simRead[cluster.Result](s, k).Value
		case "ready":
			v.Claims = append(v.Claims, readClaim(s.pairs[k], simSite))
		}
	}
	slices.SortFunc(v.Claims, func(a, b cluster.Claim) int { return a.Buffer - b.Buffer })
	return v
}

// land carries out the deletions whose time has come.
func (s *sim) land() {
	s.flying = slices.DeleteFunc(s.flying, func(d simDelete) bool {
		if d.at.After(s.now) {
			return false
		}
		s.say("%s is deleted", d.key)
		delete(s.objects, d.key)
		s.deleted++
		return true
	})
}

// broken says what is wrong, "" for nothing: a release that is registered has
// all its objects, at every moment; what is active, asked for or rolled out is
// registered.
func (s *sim) broken() string {
	if s.checkedRev == s.rev && s.checkedObjects == s.deleted {
		return ""
	}
	s.checkedRev, s.checkedObjects = s.rev, s.deleted
	var lacks []string
	for k := range s.pairs {
		id, ok := strings.CutPrefix(k, cluster.ReleasesPrefix(simSite))
		if !ok {
			continue
		}
		for _, p := range append([]string{"rel/" + id}, s.packs[release.ID(id)]...) {
			if _, ok := s.objects[p]; !ok {
				lacks = append(lacks, fmt.Sprintf("%s is registered and lacks %s", id, p))
			}
		}
	}
	if len(lacks) > 0 {
		return slices.Min(lacks)
	}
	want := map[string]release.ID{"active": simRead[cluster.Active](s, cluster.ActiveKey(simSite)).Value.Release}
	if d := simRead[cluster.Desired](s, cluster.DesiredKey(simSite)).Value; d.Request != "" {
		if _, ended := s.pairs[cluster.ResultKey(simSite, d.Request)]; !ended {
			want["asked for"] = d.Release
		}
	}
	if r := simRead[cluster.Rollout](s, cluster.RolloutKey(simSite)); r.Exists() {
		want["rolled out"] = r.Value.Release
	}
	for what, id := range want {
		if _, ok := s.pairs[cluster.ReleaseKey(simSite, id)]; !ok && id != "" {
			return fmt.Sprintf("%s is %s and not registered", id, what)
		}
	}
	return ""
}

// run is one schedule.
func (s *sim) run() string {
	const steps = 260
	for i := 0; s.steps < steps; s.steps++ {
		switch n := s.rnd.IntN(24); {
		case n < 19:
			s.pass(time.Duration(s.rnd.IntN(1000)) * time.Millisecond)
		case n < 23:
			s.pass(time.Duration(s.rnd.IntN(10000)) * time.Millisecond)
		default:
			s.pass(time.Duration(s.rnd.IntN(70000)) * time.Millisecond)
		}
		s.land()
		if why := s.broken(); why != "" {
			return why
		}
		if s.rnd.IntN(60) == 0 {
			s.expire()
		}
		if s.rnd.IntN(3) == 0 { // else the same goes on: steps of one come in bursts
			i = s.rnd.IntN(len(s.actors))
		}
		if s.actors[i].step(s) {
			s.again(i)
		}
		if why := s.broken(); why != "" {
			return why
		}
	}
	return ""
}

// again replaces an actor that has ended.
func (s *sim) again(i int) {
	switch s.actors[i].(type) {
	case *simPublisher:
		s.actors[i] = &simPublisher{want: s.wish()}
	case *simSweeper:
		s.actors[i] = &simSweeper{}
	case *simOperator:
		s.actors[i] = &simOperator{}
	}
}

// expire ends the lease of a marker, whether its publisher is dead or cut off.
func (s *sim) expire() {
	prefix := cluster.Prefix + "uploads/"
	for _, k := range slices.Sorted(maps.Keys(s.pairs)) {
		if strings.HasPrefix(k, prefix) && s.rnd.IntN(2) == 0 {
			s.say("%s runs out", k)
			s.apply([]cluster.Op{{Key: k, Delete: true}})
		}
	}
}

// simPublisher publishes a build that is these packs.
type simPublisher struct {
	want []string

	at    int
	v     *cluster.View
	req   cluster.RequestID
	gc    cluster.Entry[cluster.GC]
	base  release.ID
	left  []string // to be put
	id    release.ID
	seq   cluster.Entry[uint64]
	until int // steps
	again bool
}

func (p *simPublisher) step(s *sim) bool {
	if s.rnd.IntN(150) == 0 {
		s.say("publisher %s dies", p.req)
		p.at = 9
	}
	switch p.at {
	case 0:
		s.seqs++
		p.v, p.req = s.view(), cluster.RequestID(fmt.Sprint("R", s.seqs))
		if s.rnd.IntN(4) == 0 { // it is suspended, while much happens
			p.until = s.steps + s.rnd.IntN(200)
		}
	case 1:
		if s.steps < p.until {
			return false
		}
		if s.commit(cluster.MarkUpload(simSite, p.req, "h", s.now)) != "" {
			return true
		}
	case 2: // one read
		gc, active := simRead[cluster.GC](s, cluster.GCKey), simRead[cluster.Active](s, cluster.ActiveKey(simSite))
		if gc.Value.Phase == cluster.GCSweep && s.bug != noWait && s.bug != lateGC && s.bug != t17aNoUploadsLate {
			return false
		}
		p.gc, p.base = gc, active.Value.Release
	case 3:
		if s.bug == oldFinds && p.again {
			break
		}
		p.left = nil
		_, ok := s.objects["rel/"+string(p.base)]
		for _, w := range p.want {
			if !ok || !slices.Contains(s.packs[p.base], w) {
				p.left = append(p.left, w)
			}
		}
	case 4:
		if len(p.left) > 0 { // put it, or find it there
			if _, ok := s.objects[p.left[0]]; !ok {
				s.say("%s puts %s", p.req, p.left[0])
				s.objects[p.left[0]] = s.now
			} else {
				s.say("%s finds %s", p.req, p.left[0])
			}
			p.left = p.left[1:]
			return false
		}
	case 5:
		p.seq = simRead[uint64](s, cluster.SeqKey(simSite))
		if s.bug == lateGC || s.bug == t17aNoUploadsLate {
			if p.gc = simRead[cluster.GC](s, cluster.GCKey); p.gc.Value.Phase == cluster.GCSweep {
				return false
			}
		}
	case 6:
		p.id = release.NewID(p.seq.Value+1, release.Sum([]byte(fmt.Sprint(p.req, p.want))))
		s.packs[p.id] = p.want
		s.objects["rel/"+string(p.id)] = s.now
	case 7:
		return p.register(s)
	case 8:
		s.apply([]cluster.Op{{Key: cluster.UploadKey(simSite, p.req), Delete: true}})
	case 9: // dead: until its marker has gone
		_, stands := s.pairs[cluster.UploadKey(simSite, p.req)]
		return !stands
	case 10:
		s.commit(cluster.Request(p.v, cluster.Desired{Request: p.req, Mode: cluster.Publish, Release: p.id}))
		return true
	}
	p.at++
	if p.at == 9 {
		p.at = 10
	}
	return false
}

func (p *simPublisher) register(s *sim) bool {
	var without []string
	switch s.bug {
	case t1NoGC:
		without = []string{cluster.GCKey}
	case t1NoMarker:
		without = []string{cluster.UploadKey(simSite, p.req)}
	case t1Neither:
		without = []string{cluster.GCKey, cluster.UploadKey(simSite, p.req)}
	}
	rec := cluster.ReleaseRecord{Created: s.now, Request: p.req}
	switch s.commit(cluster.Register(simSite, p.seq, p.gc, p.id, rec), without...) {
	case "":
		s.registered++
		p.at = 8
	case cluster.ClassConflict:
		p.at = 5
	case cluster.ClassSweeping, cluster.ClassUploadExpired:
		p.at, p.again = 1, true
	default:
		return true
	}
	return false
}

// simSweeper sweeps.
type simSweeper struct {
	at     int
	rest   rest
	gc     cluster.Entry[cluster.GC] // own, from step 1 on
	v      *cluster.View
	gone   []release.ID // victims
	left   []string     // condemned
	until  time.Time    // deletions may begin
	flying string
}

func (w *simSweeper) step(s *sim) bool {
	if w.at > 0 && s.rnd.IntN(25) == 0 {
		s.say("sweeper %s dies", w.gc.Value.ID)
		return true
	}
	switch w.at {
	case 0:
		return w.begin(s)
	case 1:
		if s.bug != forgottenView || w.v == nil {
			w.v = s.view()
		}
		w.at = 2
	case 2:
		w.survey(s)
	case 3:
		return w.forget(s)
	case 4:
		return w.sweep(s)
	case 5:
		s.commit(cluster.EndSweep(w.gc, s.now))
		return true
	}
	return false
}

func (w *simSweeper) begin(s *sim) bool {
	gc := simRead[cluster.GC](s, cluster.GCKey)
	if gc.Value.Phase == cluster.GCSweep {
		if w.rest.quiet(gc.Mod, s.now) || s.bug == hastyTakeOver {
			if s.commit(cluster.EndSweep(gc, s.now)) == "" {
				s.takeovers++
			}
		}
		return false
	}
	if s.bug == forgottenView && w.v == nil {
		w.v = s.view()
		return false
	}
	var without []string
	if s.bug == t17aNoUploads || s.bug == t17aNoUploadsLate {
		without = []string{cluster.Prefix + "uploads/"}
	}
	s.seqs++
	if s.commit(cluster.BeginSweep(gc, cluster.GC{ID: fmt.Sprint("S", s.seqs), Since: s.now}), without...) == "" {
		w.gc, w.at = simRead[cluster.GC](s, cluster.GCKey), 1
	}
	return false
}

// survey lists the store, and the packs of what is kept.
func (w *simSweeper) survey(s *sim) {
	used := map[string]bool{}
	w.gone, w.left = nil, nil
	for _, f := range fate(w.v, s.keep, s.grace, s.now) {
		if !f.Keep {
			w.gone = append(w.gone, f.Release)
			continue
		}
		used["rel/"+string(f.Release)] = true
		for _, p := range s.packs[f.Release] {
			used[p] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		if !used[key] && s.now.Sub(s.objects[key]) >= s.grace {
			w.left = append(w.left, key)
		}
	}
	s.rnd.Shuffle(len(w.left), func(i, j int) { w.left[i], w.left[j] = w.left[j], w.left[i] })
	s.say("%s keeps what %v has, and condemns %v and %v", w.gc.Value.ID, used, w.gone, w.left)
	w.at = 3
	if s.bug == objectsFirst {
		w.at = 4
	}
}

func (w *simSweeper) forget(s *sim) bool {
	if len(w.gone) == 0 {
		w.at = 4
		return false
	}
	var without []string
	switch s.bug {
	case forgetNoDesired:
		without = []string{cluster.DesiredKey(simSite)}
	case forgetNoActive:
		without = []string{cluster.ActiveKey(simSite)}
	case forgetNoRollout:
		without = []string{cluster.RolloutKey(simSite)}
	}
	switch s.commit(cluster.Forget(w.gc, w.v, w.gone), without...) {
	case "":
		s.forgotten += len(w.gone)
		w.held(s)
		w.at, w.until = 4, time.Time{}
	case cluster.ClassSweeping:
		return true // it is another's
	default:
		w.at = 1
	}
	return false
}

// held takes note of a hold, whose answer can take its time.
func (w *simSweeper) held(s *sim) {
	w.gc = simRead[cluster.GC](s, cluster.GCKey)
	answered := s.now.Add(time.Duration(s.rnd.Int64N(int64(holdWithin))))
	w.until = answered.Add(10 * time.Second)
}

func (w *simSweeper) sweep(s *sim) bool {
	if w.flying != "" { // wait for the answer
		if slices.ContainsFunc(s.flying, func(d simDelete) bool { return d.key == w.flying }) {
			return false
		}
		w.flying = ""
	}
	if len(w.left) == 0 {
		w.at = 5
		return false
	}
	if s.bug != noHold && s.now.After(w.until) {
		if s.commit(cluster.HoldSweep(w.gc)) != "" {
			return true // it is another's
		}
		w.held(s)
		return false
	}
	w.flying, w.left = w.left[0], w.left[1:]
	d := simDelete{w.flying, s.now.Add(time.Duration(s.rnd.IntN(10000)) * time.Millisecond)}
	s.say("%s sends the deletion of %s", w.gc.Value.ID, d.key)
	s.flying = append(s.flying, d)
	return false
}

// simLeader decides and acts.
type simLeader struct{ v *cluster.View }

func (l *simLeader) step(s *sim) bool {
	if l.v == nil {
		l.v = s.view()
		return false
	}
	v := l.v
	l.v = nil
	a := decide(v, s.now)
	for _, st := range a.steps(cluster.Fence{Key: simFence, Create: s.pairs[simFence].Create}, v) {
		if _, ok := a.(flip); s.commit(st.txn) == "" && ok {
			s.flips++
		}
	}
	return false
}

// simNode fills buffers.
type simNode struct {
	self cluster.Self
}

func (n *simNode) step(s *sim) bool {
	r := simRead[cluster.Rollout](s, cluster.RolloutKey(simSite))
	if !r.Exists() {
		return false
	}
	member := s.pairs[cluster.MemberKey(simSite, n.self.Node)]
	v := &cluster.NodeView{
		Site: simSite, Active: simRead[cluster.Active](s, cluster.ActiveKey(simSite)), Rollout: r,
		Member:    cluster.Entry[cluster.Member]{Value: cluster.Member(member.Value), Mod: member.Mod, Create: member.Create},
		ClaimMods: make([]int64, cluster.MaxBuffers),
	}
	key := cluster.ClaimKey(simSite, r.Value.Buffer, n.self.Group, n.self.Node)
	v.ClaimMods[r.Value.Buffer] = s.pairs[key].Mod
	switch s.pairs[key].Value {
	case string(r.Value.Release):
	case cluster.NoClaim:
		s.commit(cluster.ClaimReady(n.self, v))
	default:
		s.commit(cluster.Retract(n.self, v))
	}
	return false
}

// simOperator asks for releases that there are, also old ones.
type simOperator struct {
	v  *cluster.View
	id release.ID
}

func (o *simOperator) step(s *sim) bool {
	if s.rnd.IntN(3) > 0 {
		return false
	}
	if o.v == nil {
		o.v = s.view()
		ids := slices.Sorted(maps.Keys(o.v.Releases))
		o.id = ids[s.rnd.IntN(len(ids))]
		return false
	}
	s.seqs++
	s.commit(cluster.Request(o.v, cluster.Desired{Request: cluster.RequestID(fmt.Sprint("R", s.seqs)), Mode: cluster.FlipTo, Release: o.id}))
	return true
}

// simulate runs schedules until one goes wrong, and says which.
func simulate(bug simBug, schedules int) (seed uint64, why string, sum sim) {
	for seed = range uint64(schedules) {
		s := newSim(seed, bug)
		if why = s.run(); why != "" {
			return seed, why, sum
		}
		sum.registered += s.registered
		sum.forgotten += s.forgotten
		sum.deleted += s.deleted
		sum.takeovers += s.takeovers
		sum.flips += s.flips
	}
	return 0, "", sum
}

func simCount(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("RELMAN_SIM_SCHEDULES"))
	if err != nil {
		return simSchedules
	}
	return n
}

// TestSweepSim: no schedule leaves a release without its objects.
func TestSweepSim(t *testing.T) {
	t.Parallel()
	if seed, err := strconv.ParseUint(os.Getenv("RELMAN_SIM_SEED"), 10, 64); err == nil {
		bug, _ := strconv.Atoi(os.Getenv("RELMAN_SIM_BUG")) // 0: none
		s := newSim(seed, simBug(bug))
		s.tell = t.Logf
		if why := s.run(); why != "" {
			t.Error(why)
		}
		return
	}
	n := simCount(t)
	began := time.Now()
	seed, why, sum := simulate(noBug, n)
	if why != "" {
		t.Fatalf("RELMAN_SIM_SEED=%d: %s", seed, why)
	}
	t.Logf("%d schedules in %v: %d releases registered, %d forgotten, %d flips, %d objects deleted, %d sweeps taken over",
		n, time.Since(began).Round(time.Millisecond), sum.registered, sum.forgotten, sum.flips, sum.deleted, sum.takeovers)
	for what, count := range map[string]int{"registered": sum.registered, "forgotten": sum.forgotten, "flips": sum.flips, "deleted": sum.deleted, "takeovers": sum.takeovers} {
		if count < n/10 {
			t.Errorf("only %d %s: the schedules do not meet", count, what)
		}
	}
}

// TestSweepSim_planted: the schedules find what they are for.
func TestSweepSim_planted(t *testing.T) {
	t.Parallel()
	n := simCount(t)
	for _, c := range []struct {
		name  string
		bug   simBug
		found bool
	}{
		{"T1 with the gc key read late", lateGC, true},
		{"a marker that does not wait", noWait, true},
		{"finds believed after a refusal", oldFinds, true},
		{"T1 without gc and marker guards", t1Neither, true},
		{"T17a without uploads guard, gc read late", t17aNoUploadsLate, true},
		{"T17b without the desired guard", forgetNoDesired, true},
		{"a hasty takeover", hastyTakeOver, true},
		{"deletions without a hold", noHold, true},
		{"objects before their record", objectsFirst, true},
		{"a view from before T17a", forgottenView, true},

		// Of these, another guard holds whenever this one would refuse.
		{"T1 without the gc guard", t1NoGC, false},
		{"T1 without the marker guard", t1NoMarker, false},
		{"T17a without the uploads guard", t17aNoUploads, false},
		{"T17b without the active guard", forgetNoActive, false},
		{"T17b without the rollout guard", forgetNoRollout, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			most := n
			if !c.found {
				most = n / 20
			}
			seed, why, _ := simulate(c.bug, most)
			if (why != "") != c.found {
				t.Errorf("found: %q in %d schedules (RELMAN_SIM_SEED=%d RELMAN_SIM_BUG=%d)", why, most, seed, c.bug)
			}
			t.Logf("seed %d: %s", seed, why)
		})
	}
}
