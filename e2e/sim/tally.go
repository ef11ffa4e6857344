package main

import (
	"fmt"
	"reflect"
	"strings"

	"relman/cluster"
)

// tally counts what has happened in runs.
type tally struct {
	Steps, Commits, Refused, Recognised, Resent                   int
	Terms, Flips, Rollouts, Reverts, Canaries, Outs, Swaps, Fills int
	FoundBad, Baked                                               int
	Publishes, Registered, Requests                               int
	Active, Failed, Superseded, Aborted, RefusedRequests, Others  int
	Lowered, Sweeps, TakenOver, Forgotten, Deleted, Visits        int

	ManagersKilled, Pauses, Crashes, LostWrites, DisksLost, Rots, Cuts  int
	LostQuestions, LostAnswers, LateQuestions, LostEvents, LateEvents   int
	Expired, Outages, Compactions, Restores, Accepted, Waits, SlowFills int
	DeadPublishers                                                      int
}

// ends counts a result.
func (t *tally) ends(s cluster.State) {
	switch s {
	case cluster.StateActive:
		t.Active++
	case cluster.StateFailed:
		t.Failed++
	case cluster.StateSuperseded:
		t.Superseded++
	case cluster.StateAborted:
		t.Aborted++
	case cluster.StateRefused:
		t.RefusedRequests++
	default:
		t.Others++
	}
}

// add adds another one.
func (t *tally) add(o *tally) {
	a, b := reflect.ValueOf(t).Elem(), reflect.ValueOf(o).Elem()
	for i := range a.NumField() {
		a.Field(i).SetInt(a.Field(i).Int() + b.Field(i).Int())
	}
}

// lines is all counts, some to a line.
func (t *tally) lines() string {
	var b strings.Builder
	v := reflect.ValueOf(t).Elem()
	for i := range v.NumField() {
		fmt.Fprintf(&b, "%18s %-10d", v.Type().Field(i).Name, v.Field(i).Int())
		if i%4 == 3 {
			b.WriteByte('\n')
		}
	}
	return strings.TrimRight(b.String(), "\n ") + "\n"
}
