package main

import (
	"relman/objectstore"
	"relman/release"
)

// diagnoseStore says whether the store answers, and has what nodes may need.
func diagnoseStore(c *checkup) (all []finding) {
	if c.storeErr != nil {
		return append(all, storeBlind(c, "it cannot be asked", c.storeErr))
	}
	for _, s := range c.sites {
		switch {
		case s.storeErr != nil:
			all = append(all, storeBlind(c, string(s.site)+" cannot be looked at", s.storeErr))
		case s.store == nil || s.store.Releases == 0:
		case len(s.store.Faults) == 0:
			all = append(all, fine("store", "all is there of %s of %s: %s, %s", plural(s.store.Releases, "release"), s.site, plural(s.store.Packs, "pack"), bytesText(s.store.Bytes)))
		default:
			for _, f := range s.store.Faults {
				all = append(all, storeFault(s.site, f))
			}
		}
	}
	if len(all) == 0 {
		all = append(all, fine("store", "%s answers", c.storeAt))
	}
	return all
}

func storeBlind(c *checkup, what string, err error) finding {
	f := bad("store", "%s: %v", what, err).blinded()
	switch failureOf(err).class {
	case classStoreNotFound:
		return f.todo("is it the right one (%s)? `relman config show` tells where that comes from", c.storeAt)
	case classStoreDenied:
		return f.todo("give this command the credentials of the store (AWS_ACCESS_KEY_ID and so on); the agents' may be others")
	}
	return f.todo("is it running, and its address right? Nodes serve on what they hold; until it answers nothing is published or fetched")
}

func storeFault(site release.Site, f objectstore.Fault) finding {
	var needs []release.ID
	for _, n := range f.Needs {
		needs = append(needs, n.Release)
	}
	what := "is missing"
	if !f.Missing {
		what = "is damaged (" + some(f.What) + ")"
	}
	return bad("store", "%s %s, which %s of %s needs", f.Key, what, listed(needs), site).
		todo("`relman verify -s %s` names the files and says how to repair it; a node that lacks them cannot fetch them", site)
}
