package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"relman/cluster"
	"relman/release"
)

// relHelp says how to name a release.
const relHelp = `REL is a release id, the beginning of one that no other has (leading zeros may
be left out), latest, previous, canary, or @EPOCH for what was active at that epoch.`

// resolve finds the release that a person means. It need not be in the store
// any more when it is named by an epoch.
func (s *session) resolve(ctx context.Context, v *cluster.View, rel string) (release.ID, error) {
	if epoch, ok := strings.CutPrefix(rel, "@"); ok {
		return s.atEpoch(ctx, v, epoch)
	}
	return resolveRel(v, rel)
}

// resolveRel is resolve for all but epochs.
func resolveRel(v *cluster.View, rel string) (release.ID, error) {
	ids := slices.SortedFunc(maps.Keys(v.Releases), bySeq)
	switch rel {
	case "":
		return "", usagef("a release is missing")
	case "latest":
		if len(ids) == 0 {
			return "", usagef("%s has no release yet", v.Site)
		}
		return ids[len(ids)-1], nil
	case "previous":
		if p := v.Active.Value.Previous; p != nil {
			return p.Release, nil
		}
		return "", usagef("%s has no previous release", v.Site)
	case "canary":
		if c := v.Active.Value.Canary; c != nil {
			return c.Release, nil
		}
		return "", usagef("%s has no canary", v.Site)
	}
	var found []string
	for _, id := range ids {
		if string(id) == rel || isNumberOf(rel, id) {
			return id, nil
		}
		if strings.HasPrefix(string(id), rel) || strings.HasPrefix(strings.TrimLeft(string(id), "0"), rel) {
			found = append(found, string(id))
		}
	}
	switch len(found) {
	case 0:
		return "", usagef("%s has no release %s", v.Site, rel).withHint("`relman releases` lists them")
	case 1:
		return release.ID(found[0]), nil
	}
	return "", usagef("%s can be %d releases of %s: %s", rel, len(found), v.Site, some(found))
}

// isNumberOf reports whether rel is the whole sequence number of a release, as
// its id has it or without zeros: 42 is not the beginning of 421.
func isNumberOf(rel string, id release.ID) bool {
	seq, _, _ := strings.Cut(string(id), "-")
	return rel == seq || rel == strings.TrimLeft(seq, "0")
}

// atEpoch looks an epoch up in the history.
func (s *session) atEpoch(ctx context.Context, v *cluster.View, text string) (release.ID, error) {
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil || epoch == 0 {
		return "", usagef("@%s: an epoch is a number from 1", text)
	}
	now := v.Active.Value
	if uint64(now.Epoch) == epoch {
		return now.Release, nil
	}
	if uint64(now.Epoch) < epoch {
		return "", usagef("@%s: %s is at epoch %d", text, v.Site, now.Epoch)
	}
	// Newest first: so many that the wanted one is the last.
	history, err := s.client.History(ctx, v.Site, int(min(uint64(now.Epoch)-epoch+1, maxHistory)))
	if err != nil {
		return "", err
	}
	for _, a := range history {
		if uint64(a.Epoch) == epoch {
			return a.Release, nil
		}
	}
	return "", usagef("@%s: the history of %s does not go back that far", text, v.Site)
}

// bySeq orders releases as they were made.
func bySeq(a, b release.ID) int {
	if c := int64(a.Seq()) - int64(b.Seq()); c != 0 {
		return int(c)
	}
	return strings.Compare(string(a), string(b))
}

// mostNamed bounds lists inside of messages.
const mostNamed = 5

// some joins the first few of a list.
func some[T ~string](all []T) string {
	var names []string
	for _, x := range all[:min(len(all), mostNamed)] {
		names = append(names, string(x))
	}
	if more := len(all) - mostNamed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}
