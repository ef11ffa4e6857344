package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"relman/cluster"
)

// safeEtcd is, for each line of etcd, the first version without the faults that
// make a release manager lie: stale reads after a pause, leases that are lost,
// rights that leak. Lines that are not listed and older are not safe at all.
func safeEtcd() map[[2]int]int {
	return map[[2]int]int{{3, 5}: 33, {3, 6}: 14, {3, 7}: 1}
}

const safeEtcdText = "3.5.33, 3.6.14, 3.7.1 or newer"

// longUpload is how long a publisher may be at work.
const longUpload = 6 * time.Hour

// mostBehind is how many revisions a member may be behind while others write.
const mostBehind = 1000

// isSafe reports whether a version of etcd is one to rely on.
func isSafe(version string) bool {
	core, pre, _ := strings.Cut(version, "-")
	parts := strings.Split(core, ".")
	var n [3]int
	for i := range min(len(parts), len(n)) {
		var err error
		if n[i], err = strconv.Atoi(parts[i]); err != nil {
			return false
		}
	}
	least, known := safeEtcd()[[2]int{n[0], n[1]}]
	switch {
	case len(parts) != len(n):
		return false
	case !known:
		return n[0] > 3 || n[0] == 3 && n[1] > 7
	case pre != "":
		return n[2] > least
	}
	return n[2] >= least
}

// diagnoseEtcd says how etcd's members are.
func diagnoseEtcd(h cluster.EtcdHealth) (all []finding) {
	var newest int64
	var versions []string
	voters, leads := 0, ""
	for _, m := range h.Members {
		newest = max(newest, m.Revision)
		if !m.Learner && (m.Name != "" || h.Unlisted != "") {
			voters++
		}
		if m.Problem == "" && !slices.Contains(versions, m.Version) {
			versions = append(versions, m.Version)
		}
		if m.Leads {
			leads = memberName(m)
		}
	}
	for _, m := range h.Members {
		all = append(all, diagnoseMember(m, newest)...)
	}
	for _, a := range h.Alarms {
		all = append(all, alarmed(a))
	}
	if names := h.Differ(); len(names) > 0 {
		all = append(all, bad("etcd", "members do not hold the same at the same revision: %s and %s differ", memberName(h.Members[0]), strings.Join(names, ", ")).
			todo("find out which are right by the majority, then remove the others one by one, wipe their data and add them again"))
	}
	switch {
	case len(versions) == 0:
		return append(all, bad("etcd", "none of its members answers").
			todo("is it running, and are the addresses right? Until then nothing flips, and nodes serve on").blinded())
	case !h.Answers():
		return append(all, bad("etcd", "no member knows of a leader").
			todo("bring back a majority of the members; until then nothing flips, and nodes serve on").blinded())
	case leads == "" && h.Unlisted == "":
		all = append(all, warn("etcd", "none of the members that answer leads").todo("look again in a few seconds"))
	}
	if len(versions) > 1 {
		slices.Sort(versions)
		all = append(all, warn("etcd", "its members run different versions: %s", strings.Join(versions, ", ")).todo("finish the upgrade"))
	}
	if voters < 3 {
		all = append(all, warn("etcd", "it has %s; when one dies, nothing flips any more", plural(voters, "member")).todo("a cluster that has to survive that has three or five"))
	}
	if h.Uncompared != "" {
		all = append(all, warn("etcd", "it is not known whether its members hold the same: %s", h.Uncompared).todo("ask as etcd's user root, if rights are what lacks"))
	}
	if len(all) == 0 || !slices.ContainsFunc(all, func(f finding) bool { return f.Level == levelBad }) {
		all = append(all, fine("etcd", "%s, version %s, %s leads, no alarm", plural(voters, "member"), strings.Join(versions, ", "), leads))
	}
	return all
}

func memberName(m cluster.EtcdMember) string {
	if m.Name == "" {
		return m.Endpoint
	}
	return m.Name
}

// diagnoseMember says how one member is.
func diagnoseMember(m cluster.EtcdMember, newest int64) (all []finding) {
	name := memberName(m)
	if m.Problem != "" {
		if m.Name == "" {
			return append(all, warn("etcd", "nobody answers at %s (%s)", m.Endpoint, m.Problem).todo("is the address right? Leave it out of --endpoints if it is no member's any more"))
		}
		return append(all, bad("etcd", "member %s does not answer at %s (%s)", name, m.Endpoint, m.Problem).
			todo("start it, or make its address reachable from here; if it is lost for good, `etcdctl member remove` it and add another"))
	}
	if m.Alone {
		all = append(all, bad("etcd", "member %s knows of no leader", name).todo("it is cut off from the others, or they are not there: look at the network between the members"))
	}
	if !isSafe(m.Version) {
		all = append(all, bad("etcd", "member %s runs %s, which has faults that relman cannot make up for", name, m.Version).todo("upgrade it to %s", safeEtcdText))
	}
	if m.Learner {
		all = append(all, warn("etcd", "member %s is a learner and does not count yet", name).todo("`etcdctl member promote` it when it has caught up"))
	}
	if behind := newest - m.Revision; behind > mostBehind {
		all = append(all, warn("etcd", "member %s is %s behind", name, plural(int(behind), "revision")).todo("look at its disk and network; it may be starting"))
	}
	if m.Quota > 0 && m.Size > m.Quota/10*8 {
		all = append(all, warn("etcd", "the database of member %s takes %s of the %s that it may", name, bytesText(m.Size), bytesText(m.Quota)).
			todo("compact and defragment it (`etcdctl compact`, `etcdctl defrag`), or raise --quota-backend-bytes; when it is full, nothing can be written"))
	}
	for _, fault := range m.Faults {
		if !strings.Contains(strings.ToLower(fault), "alarm") && !strings.Contains(fault, "no leader") { // said elsewhere
			all = append(all, bad("etcd", "member %s says: %s", name, fault).todo("look at its log"))
		}
	}
	return all
}

// alarmed says what an alarm means.
func alarmed(a cluster.EtcdAlarm) finding {
	who := ""
	if a.Member != "" {
		who = " of member " + a.Member
	}
	switch a.Kind {
	case "NOSPACE":
		return bad("etcd", "alarm NOSPACE%s, its database is full, and nothing can be written", who).
			todo("compact and defragment it (`etcdctl compact`, `etcdctl defrag`) or raise --quota-backend-bytes, then `etcdctl alarm disarm`")
	case "CORRUPT":
		return bad("etcd", "alarm CORRUPT%s, it does not hold what the others hold", who).
			todo("remove the member (`etcdctl member remove`), wipe its data, add it again, then `etcdctl alarm disarm`")
	}
	return bad("etcd", "alarm %s%s", a.Kind, who).todo("look at etcd's log")
}

// diagnoseManager says whether somebody leads, and sweeps.
func diagnoseManager(c *checkup) (all []finding) {
	if c.leader == "" {
		all = append(all, bad("manager", "none leads, so nothing that is asked for is carried out").todo("start `relman manager`, on two or three hosts"))
	} else {
		all = append(all, fine("manager", "%s leads", c.leader))
	}
	for _, u := range c.uploads {
		if c.now.Sub(u.Since) > longUpload {
			all = append(all, warn("store", "a publisher on %s began %s to publish to %s and is not done; no sweep begins meanwhile", u.Host, agoText(u.Since, c.now), u.Site).
				todo("end it if it hangs; its marker %s goes by itself 15 minutes later", cluster.UploadKey(u.Site, u.Request)))
		}
	}
	if n := len(c.uploads); n > 0 {
		all = append(all, fine("store", "%s at work", plural(n, "publisher")))
	}
	g := c.gc.Value
	switch {
	case c.gc.Exists() && g.Phase == cluster.GCSweep && c.resting:
		f := warn("store", "the sweep that %s began %s gives no sign, and publishers wait for its end", g.By, agoText(g.Since, c.now)).todo("the leading manager ends it after a minute; look again")
		if c.leader == "" {
			f = bad("store", "the sweep that %s began %s gives no sign, publishers wait for its end, and nobody leads who would end it", g.By, agoText(g.Since, c.now)).
				todo("start `relman manager`, or run `relman sweep`")
		}
		all = append(all, f)
	case c.gc.Exists() && g.Phase == cluster.GCSweep:
		all = append(all, fine("store", "%s sweeps it, begun %s", g.By, agoText(g.Since, c.now)))
	}
	return all
}
