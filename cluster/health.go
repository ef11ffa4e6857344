package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

// EtcdHealth is what the members of etcd say of themselves and of each other.
type EtcdHealth struct {
	Members []EtcdMember
	// Unlisted is why etcd did not say which members it has, "" if it did. Then
	// those stand in Members that the configuration names.
	Unlisted string
	Alarms   []EtcdAlarm
	// Uncompared is why it is not known whether all members hold the same, "" if
	// it is.
	Uncompared string
}

// EtcdMember is one member of etcd, as it answered for itself.
type EtcdMember struct {
	Name     string // "" where etcd did not say
	Endpoint string // where it was asked
	Problem  string // why it did not answer, "" if it did

	Version string
	Leads   bool     // it is the leader
	Alone   bool     // it knows of no leader
	Learner bool     // it does not vote yet
	Size    int64    // of its database, in bytes
	Quota   int64    // that the database may take, 0 where it does not say
	Faults  []string // that it names itself

	Revision int64  // that it has come to
	Hash     uint32 // of all that it holds, at one revision; 0 where it was not asked
	hashed   int64  // the oldest revision that it hashed

	id uint64
}

// EtcdAlarm is an alarm that stands: NOSPACE or CORRUPT.
type EtcdAlarm struct {
	Member string // "" where it is not known
	Kind   string
}

// Health asks every member of etcd by itself, as far as it can be reached from
// here: at the endpoints that were configured, or at those that it advertises. It
// is no error that etcd is ill.
func (c *Client) Health(ctx context.Context) EtcdHealth {
	var h EtcdHealth
	asked := c.askAll(ctx, c.cfg.Endpoints)
	h.Unlisted = "nobody answers"
	if slices.ContainsFunc(asked, func(m EtcdMember) bool { return m.Problem == "" }) {
		lctx, cancel := c.call(ctx)
		defer cancel()
		list, err := c.kv.MemberList(lctx)
		if h.Unlisted = ""; err != nil {
			h.Unlisted, list = c.silence(err), &clientv3.MemberListResponse{}
		}
		for _, m := range list.Members {
			h.Members = append(h.Members, c.member(ctx, m, asked))
		}
	}
	for _, m := range unique(asked) { // addresses that are nobody's, as far as can be told
		if (h.Unlisted != "" || m.Problem != "") && !slices.ContainsFunc(h.Members, func(o EtcdMember) bool { return o.Endpoint == m.Endpoint }) {
			h.Members = append(h.Members, m)
		}
	}
	if !h.Answers() {
		return h
	}
	h.Alarms = c.alarms(ctx, h.Members)
	h.Uncompared = c.compare(ctx, h.Members)
	return h
}

// askAll asks endpoints, all at once.
func (c *Client) askAll(ctx context.Context, endpoints []string) []EtcdMember {
	all := make([]EtcdMember, len(endpoints))
	var wg sync.WaitGroup
	for i, e := range endpoints {
		wg.Go(func() { all[i] = c.askMember(ctx, e) })
	}
	wg.Wait()
	return all
}

// askMember asks who answers at an endpoint.
func (c *Client) askMember(ctx context.Context, endpoint string) EtcdMember {
	m := EtcdMember{Endpoint: endpoint}
	ctx, cancel := c.call(ctx)
	defer cancel()
	s, err := c.kv.Status(ctx, endpoint)
	if err != nil {
		m.Problem = c.silence(err)
		return m
	}
	m.id, m.Version, m.Learner = s.Header.MemberId, s.Version, s.IsLearner
	m.Leads, m.Alone = s.Leader == s.Header.MemberId, s.Leader == 0
	m.Size, m.Quota, m.Revision, m.Faults = s.DbSize, s.DbSizeQuota, s.Header.Revision, s.Errors
	return m
}

// silence says why somebody did not answer. gRPC tries to connect until the time
// is up, and says no more than that.
func (c *Client) silence(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || code(err) == codes.DeadlineExceeded {
		return fmt.Sprintf("no answer within %v", c.cfg.Timeout)
	}
	return text(err)
}

// unique leaves each member that answered once.
func unique(all []EtcdMember) (members []EtcdMember) {
	for _, m := range all {
		if m.Problem != "" || !slices.ContainsFunc(members, func(o EtcdMember) bool { return o.Problem == "" && o.id == m.id }) {
			members = append(members, m)
		}
	}
	return members
}

// member finds a member of etcd's list among those that were asked, or asks it
// where it says that it is.
func (c *Client) member(ctx context.Context, listed *etcdserverpb.Member, asked []EtcdMember) EtcdMember {
	for _, m := range asked {
		if m.Problem == "" && m.id == listed.ID {
			m.Name = listed.Name
			return m
		}
	}
	m := EtcdMember{Name: listed.Name, Learner: listed.IsLearner, Problem: "it has not said where it can be asked", id: listed.ID}
	for _, url := range listed.ClientURLs {
		i := slices.IndexFunc(asked, func(a EtcdMember) bool { return a.Endpoint == url })
		if i >= 0 {
			m.Endpoint, m.Problem = url, asked[i].Problem // it has been, just now
			continue
		}
		found := c.askMember(ctx, url)
		if found.Problem == "" && found.id != listed.ID {
			found.Problem = "another member answers there"
		}
		if found.Problem == "" {
			found.Name = listed.Name
			return found
		}
		m.Endpoint, m.Problem = url, found.Problem
	}
	return m
}

// alarms lists the alarms that stand. Whoever may not see them sees none: the
// members name theirs among their faults, too.
func (c *Client) alarms(ctx context.Context, members []EtcdMember) (all []EtcdAlarm) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	r, err := c.kv.AlarmList(ctx)
	if err != nil {
		return nil
	}
	for _, a := range r.Alarms {
		alarm := EtcdAlarm{Kind: a.Alarm.String()}
		for _, m := range members {
			if m.id == a.MemberID {
				alarm.Member = m.Name
			}
		}
		all = append(all, alarm)
	}
	return all
}

// compareWithin is how long a member may take to come to a revision that etcd
// has answered with.
const compareWithin = 3 * time.Second

// compare has every member hash what it holds at one revision.
func (c *Client) compare(ctx context.Context, members []EtcdMember) (why string) {
	r, err := c.read(ctx, "ask for the revision", clientv3.OpGet(InfoKey, clientv3.WithCountOnly()))
	if err != nil {
		return err.Error()
	}
	var mu sync.Mutex // guards why
	var wg sync.WaitGroup
	for i := range members {
		m := &members[i]
		if m.Problem != "" || m.Learner {
			continue
		}
		wg.Go(func() {
			if err := c.hash(ctx, m, r.Header.Revision); err != nil {
				mu.Lock()
				defer mu.Unlock()
				why = text(err)
			}
		})
	}
	wg.Wait()
	return why
}

// hash asks for a member's hash, until it has come to the revision.
func (c *Client) hash(ctx context.Context, m *EtcdMember, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout+compareWithin)
	defer cancel()
	for began := time.Now(); ; {
		h, err := c.kv.HashKV(ctx, m.Endpoint, revision)
		if err == nil {
			m.Hash, m.hashed, m.Revision = h.Hash, h.CompactRevision, max(m.Revision, h.Header.Revision)
			return nil
		}
		late := errors.Is(rpctypes.Error(err), rpctypes.ErrFutureRev)
		if late && time.Since(began) > compareWithin {
			return nil // its revision says so
		}
		if !late || !sleep(ctx, 100*time.Millisecond) {
			return err
		}
	}
}

// Differ lists the members that hold something else than the first one; those
// that were compacted otherwise cannot be compared.
func (h EtcdHealth) Differ() (names []string) {
	var first *EtcdMember
	for i := range h.Members {
		m := &h.Members[i]
		switch {
		case m.Hash == 0:
		case first == nil:
			first = m
		case m.hashed == first.hashed && m.Hash != first.Hash:
			names = append(names, m.Name)
		}
	}
	return names
}

// Answers reports whether a member answers that knows of a leader.
func (h EtcdHealth) Answers() bool {
	return slices.ContainsFunc(h.Members, func(m EtcdMember) bool { return m.Problem == "" && !m.Alone })
}
