package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"relman/cluster"
	"relman/release"
)

// sound are histories without a violation, by what happens in them after two
// releases were published.
var sound = map[string]func(p *past){
	"nothing": func(*past) {},
	"a rollback": func(p *past) {
		a := p.next(1, 0, 2)
		a.Kind, a.Flip, a.Request = cluster.Rollback, "01BACK", "01BACK"
		p.do(flip(a))
	},
	"a rollback that a freeze allows, and a freeze made by it": func(p *past) {
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op", AllowRollback: true}})
		a := p.next(1, 0, 2)
		a.Kind, a.Flip, a.Request = cluster.Rollback, "01BACK", "01BACK"
		ops := flip(a)
		ops[cluster.FreezeKey(www)] = cluster.Freeze{By: "op", AllowRollback: true, Reason: "again"}
		p.do(ops)
	},
	"a node that enters between the count and the flip": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flip(p.next(3, 2, 1)))
	},
	"a flip that a freeze follows": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flip(p.next(3, 2, 2)))
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op"}})
	},
	"a freeze that an operator overrides": func(p *past) {
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op"}})
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"override":["freeze"]`))
	},
	"an abort, and another publish": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1")
		p.do(puts{cluster.RolloutKey(www): nil, cluster.ResultKey(www, request(3)): cluster.Result{State: cluster.StateAborted}})
		p.publishes(4, 2)
	},
	"a rollout that another one replaces": func(p *past) {
		p.starts(3, 2)
		p.do(puts{cluster.ResultKey(www, request(3)): cluster.Result{State: cluster.StateSuperseded},
			cluster.RolloutKey(www): cluster.Rollout{Release: id(4), Buffer: 2, Flip: flipID(4), Request: request(4)}})
		p.prepares(4, 2, "n1", "n2")
		p.do(flip(p.next(4, 2, 2)))
	},
	"a node that lowers what its disk has lost, and comes back": func(p *past) {
		p.do(puts{claim(0, "n1"): "-", claim(1, "n1"): "-", cluster.LoweredKey("n1", www): `{"buffers":[0,1]}`})
		p.do(puts{claim(0, "n1"): id(1), claim(1, "n1"): id(2), claim(2, "n1"): "-"})
		p.publishes(3, 2)
	},
	"a node that enters without the previous release": func(p *past) {
		p.do(puts{claim(0, "n1"): "-", claim(1, "n1"): id(2), claim(2, "n1"): "-"})
	},
	"a node that is put out, and the policy allows it": func(p *past) {
		p.do(puts{cluster.ConfigKey(www): cluster.Policy{Min: "50%", Buffers: 3}})
		p.outs("n1")
		p.starts(3, 2)
		p.prepares(3, 2, "n2")
		p.do(flip(p.next(3, 2, 1)))
	},
	"a drained member whose claims stand": func(p *past) {
		p.do(puts{cluster.MemberKey(www, "n1"): "drain"})
		p.publishes(3, 2)
	},
	"a flip with fewer nodes than the policy wants, by an operator's word": func(p *past) {
		p.outs("n1")
		p.starts(3, 2)
		p.prepares(3, 2, "n2")
		p.do(flipWith(p.next(3, 2, 1), `"override":"require"`))
	},
	"a node that joins and does not count yet": func(p *past) {
		p.do(puts{cluster.MemberKey(www, "n3"): "in"})
		p.publishes(3, 2)
		p.do(puts{claim(0, "n3"): "-", claim(1, "n3"): id(2), claim(2, "n3"): id(3)})
	},
	"a canary on all nodes, promoted": func(p *past) {
		p.canaries(3, 2)
		a := p.next(3, 2, 2)
		a.Flip, a.Kind = "01PROMOTE", "promote"
		p.do(flip(a))
		p.publishes(4, 0)
	},
	"a canary that is taken back while a node has lost it": func(p *past) {
		p.canaries(3, 2)
		p.do(puts{claim(2, "n1"): "-", cluster.LoweredKey("n1", www): `{"buffers":[2]}`})
		a := *p.active()
		a.Epoch, a.Flip, a.Kind, a.Canary = a.Epoch+1, "01TAKEBACK", cluster.EndCanary, nil
		ops := flip(a)
		ops[cluster.VerdictKey(www, id(3))] = "bad probe"
		p.do(ops)
		p.publishes(4, 2)
	},
	"a canary of a group, where the policy wants the group alone": func(p *past) {
		p.do(puts{cluster.ConfigKey(www): `{"min":"100%","buffers":3,"canary":{"prepare":"group"}}`})
		p.do(puts{claimOf(0, "canary", "n3"): "-", claimOf(1, "canary", "n3"): id(2), claimOf(2, "canary", "n3"): "-"})
		p.starts(3, 2)
		p.do(puts{claimOf(2, "canary", "n3"): id(3)})
		a := *p.active()
		a.Epoch, a.Flip, a.Kind = a.Epoch+1, flipID(3), "canary"
		p.do(flipWith(a, fmt.Sprintf(`"canary":{"group":"canary","release":%q,"buffer":2}`, id(3))))
	},
	"a scheduled flip that another one overtakes": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"activate_at":"2026-11-22T12:05:00Z"`))
		a := p.next(1, 0, 2)
		a.Previous = &cluster.Held{Release: id(2), Buffer: 1} // what is still shown
		a.Kind, a.Flip, a.Request = cluster.Rollback, "01BACK", "01BACK"
		p.do(flip(a))
	},
	"a flip an hour ahead, and its skew": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"activate_at":"2026-11-22T13:00:00Z"`))
		p.do(puts{cluster.SkewKey(www, 3): cluster.Skew{MS: 1.5, Nodes: 2}, cluster.ClockKey: cluster.Clock{At: noon}})
	},
	"a node that is out is removed while no manager leads": func(p *past) {
		p.outs("n1")
		p.do(puts{manager: nil})
		p.do(removed("n1"))
	},
	"a node that drains is put out while it lives": func(p *past) {
		p.do(puts{cluster.MemberKey(www, "n1"): "drain", cluster.RosterKey(www): cluster.Roster{V: 2}})
		p.do(out("n1"))
	},
	"a verdict that an operator overrides": func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.VerdictKey(www, id(3)): "bad probe"})
		p.do(flipWith(p.next(3, 2, 2), `"override":["verdict"]`))
	},
	"a release that nothing needs any more is swept": func(p *past) {
		p.publishes(3, 2)
		p.do(puts{cluster.ReleaseKey(www, id(1)): nil})
	},
	"a new leader": func(p *past) {
		p.do(puts{cluster.ElectionPrefix + "/2": "m2"})
		p.do(puts{manager: nil})
		p.publishes(3, 2)
	},
	"a leader that says so": func(p *past) {
		p.do(puts{cluster.ElectionPrefix + "/1": "m2"}) // waits
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), fmt.Sprintf(`"leader":%d`, p.keys[manager].Create)))
	},
	"a node that starts again with an older disk": func(p *past) {
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 2}})
		p.do(puts{cluster.StatusKey("n1", www): nil, cluster.LiveKey("n1"): nil})
		p.do(puts{cluster.LiveKey("n1"): cluster.Live{Boot: "01NEXT"}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeSyncing}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 1}})
	},
	"a node that is told to accept an older epoch": func(p *past) {
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeServing, Epoch: 9}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeRefusing, Epoch: 9}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeSyncing, Epoch: 9}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeServing, Epoch: 2}})
	},
	"history that is trimmed": func(p *past) {
		for range 1100 {
			a := p.next(1+uint64(p.active().Epoch)%2, int(p.active().Epoch)%2, 2)
			a.Kind, a.Flip, a.Request = cluster.Rollback, cluster.NewULID(), cluster.NewRequestID()
			p.do(flip(a))
		}
		p.do(puts{cluster.HistoryKey(www, 1): nil, cluster.HistoryKey(www, 102): nil, cluster.ResultKey(www, request(1)): nil})
	},
	"skew that is written to the history later": func(p *past) {
		p.do(puts{cluster.HistoryKey(www, 2): with(*p.active(), `"skew_ms":1.5`)})
	},
	"another site": func(p *past) {
		p.do(puts{cluster.SitePrefix("shop") + "active": `{"release":"000001-aaaaaaaaaaaa","epoch":9}`})
	},
	"a release that goes back when its trial is over": func(p *past) {
		p.tries(func(a *cluster.Active) { a.ConfirmBy = noon })
		p.do(p.revert())
	},
	"a release that goes back while it bakes": func(p *past) {
		p.do(puts{cluster.BakedKey(www): "2", cluster.ConfirmedKey(www): "2"})
		p.tries(func(a *cluster.Active) { a.Bake = &cluster.Bake{Seconds: 60} })
		p.do(p.revert())
	},
	"a release that has baked, and was on trial": func(p *past) {
		p.tries(func(a *cluster.Active) { a.Bake, a.ConfirmBy = &cluster.Bake{Seconds: 60}, noon })
		p.do(puts{cluster.BakedKey(www): "3"})
		p.do(p.revert())
	},
	"keys and fields of a newer program": func(p *past) {
		p.do(puts{cluster.SitePrefix(www) + "weather": "fine", cluster.Prefix + "moon": "full", cluster.FreezeKey(www): `{"by":"op","until":"2026-11-22T12:00:00Z"}`})
	},
}

// planted are histories with one violation each, by what happens in them after
// two releases were published.
var planted = []struct {
	name  string
	want  Invariant
	key   string // of the violation, below the site's prefix unless it is absolute
	says  string
	after func(p *past)
}{
	{"one claim is of another release", I2, "active", "n2: -", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1")
		a := p.next(3, 2, 1)
		p.do(puts{cluster.ConfigKey(www): cluster.Policy{Min: "50%", Buffers: 3}})
		p.do(flip(a))
	}},
	{"a node that has entered says nothing of the buffer", I2, "active", "n3 has none for the buffer", func(p *past) {
		p.do(puts{cluster.MemberKey(www, "n3"): "in"})
		p.do(puts{claim(0, "n3"): "-", claim(1, "n3"): id(2), cluster.ConfigKey(www): cluster.Policy{Min: "50%", Buffers: 3}})
		p.publishes(3, 2)
	}},
	{"nobody has entered", I2, "active", "nobody claims", func(p *past) {
		p.outs("n1")
		p.outs("n2")
		p.do(flip(p.next(3, 2, 0)))
	}},
	{"nobody claims anything", I2, "active", "is not claimed by every member (n1 has none", func(p *past) {
		p.do(puts{cluster.RosterKey(www): cluster.Roster{V: 2}, claim(2, "n1"): nil, claim(2, "n2"): nil})
		p.do(puts{cluster.ConfigKey(www): cluster.Policy{Min: "0", Buffers: 3}})
		p.do(flip(p.next(3, 2, 0)))
	}},
	{"a canary that one node lacks", I2, "active", "canary", func(p *past) {
		p.do(puts{cluster.ConfigKey(www): cluster.Policy{Min: "1", Buffers: 3}})
		p.starts(3, 2)
		p.prepares(3, 2, "n1")
		a := *p.active()
		a.Epoch, a.Flip, a.Kind = a.Epoch+1, flipID(3), "canary"
		p.do(flipWith(a, fmt.Sprintf(`"canary":{"group":"","release":%q,"buffer":2}`, id(3))))
	}},
	{"an epoch is left out", I3, "active", "epoch 4 follows epoch 2", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		a := p.next(3, 2, 2)
		a.Epoch = 4
		p.do(flip(a))
	}},
	{"an epoch goes back", I3, "active", "epoch 1 follows epoch 2", func(p *past) {
		a := p.next(1, 0, 2)
		a.Epoch, a.Flip, a.Request = 1, "01OLD", "01OLD"
		ops := flip(a)
		delete(ops, cluster.HistoryKey(www, 1))
		p.do(ops)
	}},
	{"the active key is deleted", I3, "active", "deleted", func(p *past) {
		p.do(puts{cluster.ActiveKey(www): nil})
	}},
	{"a node shows an older epoch", I3, cluster.StatusKey("n1", www), "epoch 1, after epoch 2", func(p *past) {
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 2}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 1}})
	}},
	{"a node shows an older epoch again", I3, cluster.StatusKey("n1", www), "epoch 1, after epoch 2", func(p *past) {
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{State: cluster.NodeRefusing, Epoch: 3}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 2}})
		p.do(puts{cluster.StatusKey("n1", www): cluster.Status{Epoch: 1}})
	}},
	{"a flip without a leader", I4, "active", "no manager led", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{manager: nil})
		p.do(flip(p.next(3, 2, 2)))
	}},
	{"a rollout without a leader", I4, "rollout", "no manager led", func(p *past) {
		p.do(puts{manager: nil})
		p.starts(3, 2)
	}},
	{"a member that is in is removed without a leader", I4, "members/n1", "no manager led", func(p *past) {
		p.do(puts{cluster.LiveKey("n1"): nil, manager: nil})
		p.do(removed("n1"))
	}},
	{"more is done than to remove a node, without a leader", I4, "baked", "no manager led", func(p *past) {
		p.outs("n1")
		p.do(puts{manager: nil})
		ops := removed("n1")
		ops[cluster.BakedKey(www)] = "2"
		p.do(ops)
	}},
	{"a flip of a leader that was", I4, "active", "elected at revision", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		was := p.keys[manager].Create
		p.do(puts{manager: nil})
		p.do(puts{cluster.ElectionPrefix + "/2": "m2"})
		p.do(flipWith(p.next(3, 2, 2), fmt.Sprintf(`"leader":%d`, was)))
	}},
	{"a flip while frozen", I6, "active", "frozen by op: maintenance", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op", Reason: "maintenance", AllowRollback: true}})
		p.do(flip(p.next(3, 2, 2)))
	}},
	{"a rollback that a freeze does not allow", I6, "active", "rollback", func(p *past) {
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op"}})
		a := p.next(1, 0, 2)
		a.Kind, a.Flip, a.Request = cluster.Rollback, "01BACK", "01BACK"
		p.do(flip(a))
	}},
	{"another freeze than the one that is overridden", I6, "active", "frozen by ops: a fire", func(p *past) {
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "op"}})
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		ops := flipWith(p.next(3, 2, 2), `"override":["freeze"]`)
		p.asks(ops[cluster.ActiveKey(www)])
		p.do(puts{cluster.FreezeKey(www): cluster.Freeze{By: "ops", Reason: "a fire"}})
		p.do(ops)
	}},
	{"a node that lives is put out", I8, "members/n1", "had not been drained", func(p *past) { p.do(out("n1")) }},
	{"a node that lives is removed", I8, "members/n1", "had not been drained", func(p *past) {
		ops := out("n1")
		ops[cluster.MemberKey(www, "n1")] = nil
		p.do(ops)
	}},
	{"a flip is applied twice", I7, "active", "the flip 01FLIP1 has been at revision", func(p *past) {
		a := p.next(1, 0, 2)
		a.Flip, a.Request = flipID(1), "01OTHER"
		p.do(flip(a))
	}},
	{"a flip without an id", I7, "active", "no flip id", func(p *past) {
		a := p.next(1, 0, 2)
		a.Flip, a.Request = "", "01OTHER"
		p.do(flip(a))
	}},
	{"a request is carried out twice", I7, "active", "publish of request 01REQ1", func(p *past) {
		a := p.next(1, 0, 2)
		a.Flip = "01OTHER"
		p.do(flip(a))
	}},
	{"a rollout fills the active buffer", I10, "rollout", "fills buffer 1", func(p *past) { p.starts(3, 1) }},
	{"a rollout fills the previous buffer", I10, "rollout", "fills buffer 0", func(p *past) { p.starts(3, 0) }},
	{"a rollout fills the canary's buffer", I10, "rollout", "fills buffer 2", func(p *past) {
		p.canaries(3, 2)
		p.starts(4, 2)
	}},
	{"a flip leaves a rollout into what it needs", I10, "active", "fills buffer 2", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		ops := flip(p.next(3, 2, 2))
		delete(ops, cluster.RolloutKey(www))
		p.do(ops)
	}},
	{"what was active is not the previous one", I10, "active", "the previous release is", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		a := p.next(3, 2, 2)
		a.Previous = &cluster.Held{Release: id(1), Buffer: 0}
		p.do(flip(a))
	}},
	{"a canary's flip forgets the previous release", I10, "active", "the previous release is none, not", func(p *past) {
		p.canaries(3, 2)
		a := *p.active()
		a.Epoch, a.Flip, a.Kind, a.Request, a.Canary, a.Previous = a.Epoch+1, "01TAKEBACK", cluster.EndCanary, "01TAKEBACK", nil, nil
		p.do(flip(a))
	}},
	{"something else was asked for", I11, "active", "what was asked for is request 01OTHER", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		ops := flip(p.next(3, 2, 2))
		p.asks(ops[cluster.ActiveKey(www)])
		p.do(puts{cluster.DesiredKey(www): cluster.Desired{Request: "01OTHER"}})
		p.unasked = true
		p.do(ops)
	}},
	{"a request that failed is answered with success", I11, "results/01REQ9", "was failed, and now is", func(p *past) {
		p.do(puts{cluster.ResultKey(www, request(9)): cluster.Result{State: cluster.StateFailed}})
		p.do(puts{cluster.ResultKey(www, request(9)): cluster.Result{State: cluster.StateActive, Release: id(2), Epoch: 2}})
	}},
	{"another verdict than the one that is overridden", I11, "active", "is yanked", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.VerdictKey(www, id(3)): "bad probe"})
		ops := flipWith(p.next(3, 2, 2), `"override":["verdict"]`)
		p.asks(ops[cluster.ActiveKey(www)])
		p.do(puts{cluster.VerdictKey(www, id(3)): "yanked"})
		p.do(ops)
	}},
	{"an aborted request becomes active", I11, "active", "request 01REQ3 was aborted at revision", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.ResultKey(www, request(3)): cluster.Result{State: cluster.StateAborted}})
		ops := flip(p.next(3, 2, 2))
		delete(ops, cluster.ResultKey(www, request(3)))
		p.do(ops)
	}},
	{"a rollout that was ended becomes active", I11, "active", "the rollout with the flip 01FLIP3 was ended at revision", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		a := p.next(3, 2, 2)
		p.do(puts{cluster.RolloutKey(www): nil})
		p.do(flip(a))
	}},
	{"a rollout that was replaced becomes active", I11, "active", "was replaced", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		a := p.next(3, 2, 2)
		p.starts(4, 2)
		p.do(flip(a))
	}},
	{"a yanked release becomes active", I11, "active", "is yanked broken", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.VerdictKey(www, id(3)): "yanked broken"})
		p.do(flip(p.next(3, 2, 2)))
	}},
	{"a stale worker retracts what is active", I12, "ready/1/main/n1", "took back its claim", func(p *past) {
		p.do(puts{claim(1, "n1"): "-"})
	}},
	{"a node retracts what was active before", I12, "ready/0/main/n2", "took back its claim", func(p *past) {
		p.starts(3, 2)
		p.do(puts{claim(0, "n2"): "-"})
	}},
	{"a node lowers more than it says", I12, "ready/0/main/n1", "took back its claim", func(p *past) {
		p.do(puts{claim(0, "n1"): "-", claim(1, "n1"): "-", cluster.LoweredKey("n1", www): `{"buffers":[1]}`})
	}},
	{"another node explains it", I12, "ready/1/main/n1", "took back its claim", func(p *past) {
		p.do(puts{claim(1, "n1"): "-", cluster.LoweredKey("n2", www): `{"buffers":[1]}`})
	}},
	{"an old explanation explains nothing new", I12, "ready/1/main/n1", "took back its claim", func(p *past) {
		p.do(puts{cluster.LoweredKey("n1", www): `{"buffers":[1]}`})
		p.do(puts{claim(1, "n1"): "-"})
	}},
	{"a node puts another release in what is active", I12, "ready/1/main/n1", "took back its claim", func(p *past) {
		p.do(puts{claim(0, "n1"): id(1), claim(1, "n1"): id(3), claim(2, "n1"): "-"})
	}},
	{"a member's claim is deleted", I12, "ready/1/main/n1", "still a member", func(p *past) {
		p.do(puts{cluster.RosterKey(www): cluster.Roster{V: 2}, claim(1, "n1"): nil})
	}},
	{"fewer than the policy wants", I13, "active", "1 of 2 nodes claimed the release, the policy wants 2", func(p *past) {
		p.outs("n1")
		p.starts(3, 2)
		p.prepares(3, 2, "n2")
		p.do(flip(p.next(3, 2, 1)))
	}},
	{"a node that was put out and is in again counts", I13, "active", "1 of 2 nodes", func(p *past) {
		p.outs("n1")
		p.do(puts{cluster.MemberKey(www, "n1"): "in"})
		p.starts(3, 2)
		p.prepares(3, 2, "n2")
		p.do(flip(p.next(3, 2, 1)))
	}},
	{"fewer than the number that the policy wants", I13, "active", "the policy wants 5", func(p *past) {
		p.do(puts{cluster.ConfigKey(www): `{"quorum":{"min":"5"}}`})
		p.publishes(3, 2)
	}},
	{"a policy that says nothing", I13, "active", `min is "most"`, func(p *past) {
		p.do(puts{cluster.ConfigKey(www): cluster.Policy{Min: "most"}})
		p.publishes(3, 2)
	}},
	{"a site without a policy", I13, "active", "no policy", func(p *past) {
		p.do(puts{cluster.ConfigKey(www): nil})
		p.publishes(3, 2)
	}},
	{"the evidence is more than what was there", I13, "active", "there were 7 claims, there were 2", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flip(p.next(3, 2, 7)))
	}},
	{"a claim goes and the roster does not say so", I13, "ready/2/main/n1", "the roster does not say so", func(p *past) {
		p.do(puts{claim(2, "n1"): nil})
	}},
	{"a member goes and the roster does not say so", I13, "members/n1", "the roster does not say so", func(p *past) {
		p.do(puts{cluster.LiveKey("n1"): nil})
		p.do(puts{cluster.MemberKey(www, "n1"): "out"})
	}},
	{"a release that is not registered becomes active", I14, "active", "is needed and not registered", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(puts{cluster.DesiredKey(www): asked{Request: string(request(3))}})
		p.unasked = true
		p.do(flip(p.next(3, 2, 2)))
	}},
	{"another manifest than the release's", I14, "active", "is shown with the manifest", func(p *past) {
		p.do(puts{cluster.ReleaseKey(www, id(3)): record{Manifest: text(manifest(4))}})
		p.publishes(3, 2)
	}},
	{"what is active is swept", I14, "releases/" + string(id(2)), "is needed and not registered", func(p *past) {
		p.do(puts{cluster.ReleaseKey(www, id(2)): nil})
	}},
	{"a canary is swept", I14, "releases/" + string(id(3)), "is needed and not registered", func(p *past) {
		p.canaries(3, 2)
		p.do(puts{cluster.ReleaseKey(www, id(3)): nil})
	}},
	{"a flip that is scheduled for too late", I16, "active", "scheduled for 2026-11-22T13:00:01Z", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"activate_at":"2026-11-22T13:00:01Z"`))
	}},
	{"a flip that is scheduled for the past", I16, "active", "scheduled for 2026-11-22T12:00:00Z", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"activate_at":"2026-11-22T12:00:00Z"`))
	}},
	{"a scheduled flip is forgotten after its time", I10, "active", "is not kept", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		p.do(flipWith(p.next(3, 2, 2), `"activate_at":"2026-11-22T12:05:00Z"`))
		a := p.next(1, 0, 2)
		a.Previous, a.At = &cluster.Held{Release: id(2), Buffer: 1}, noon.Add(5*time.Minute) // it is not shown any more
		a.Kind, a.Flip, a.Request = cluster.Rollback, "01BACK", "01BACK"
		p.do(flip(a))
	}},
	{"a skew without a leader", I4, "skew/0000000002", "no manager led", func(p *past) {
		p.do(puts{manager: nil})
		p.do(puts{cluster.SkewKey(www, 2): cluster.Skew{MS: 1.5, Nodes: 2}})
	}},
	{"a revert of what was never on trial", I17, "active", "neither bakes nor was on trial", func(p *past) {
		p.tries(func(*cluster.Active) {})
		p.do(p.revert())
	}},
	{"a revert before the trial is over", I17, "active", "neither bakes nor was on trial until then", func(p *past) {
		p.tries(func(a *cluster.Active) { a.ConfirmBy = noon.Add(time.Second) })
		p.do(p.revert())
	}},
	{"a revert of what was confirmed", I17, "active", "epoch 3, which has been confirmed", func(p *past) {
		p.tries(func(a *cluster.Active) { a.Bake, a.ConfirmBy = &cluster.Bake{Seconds: 60}, noon })
		p.do(puts{cluster.ConfirmedKey(www): "3"})
		p.do(p.revert())
	}},
	{"a revert of what has baked", I17, "active", "epoch 3, which has baked", func(p *past) {
		p.tries(func(a *cluster.Active) { a.Bake = &cluster.Bake{Seconds: 60} })
		p.do(puts{cluster.BakedKey(www): "3"})
		p.do(p.revert())
	}},
	{"a revert to something else", I17, "active", "the release before was " + string(id(2)), func(p *past) {
		p.tries(func(a *cluster.Active) { a.Bake = &cluster.Bake{Seconds: 60} })
		ops := p.revert()
		a := ops[cluster.ActiveKey(www)].(cluster.Active)
		a.Release, a.Buffer, a.Manifest = id(1), 0, manifest(1)
		p.do(flipRelated(ops, a))
	}},
	{"a revert that bars nothing", I17, "active", "does not bar it", func(p *past) {
		p.tries(func(a *cluster.Active) { a.Bake = &cluster.Bake{Seconds: 60} })
		ops := p.revert()
		delete(ops, cluster.VerdictKey(www, id(3)))
		p.do(ops)
	}},
	{"a flip that is not in the history", I15, "active", "the history does not have it", func(p *past) {
		p.starts(3, 2)
		p.prepares(3, 2, "n1", "n2")
		ops := flip(p.next(3, 2, 2))
		delete(ops, cluster.HistoryKey(www, 3))
		delete(ops, cluster.ResultKey(www, request(3)))
		p.do(ops)
	}},
	{"an answer without a flip", I15, "results/01REQ3", "does not have", func(p *past) {
		p.do(puts{cluster.ResultKey(www, request(3)): cluster.Result{State: cluster.StateActive, Release: id(3), Epoch: 3}})
	}},
	{"an answer of another release", I15, "results/01REQ3", "does not have", func(p *past) {
		p.do(puts{cluster.ResultKey(www, request(3)): cluster.Result{State: cluster.StateActive, Release: id(3), Epoch: 2}})
	}},
	{"an answer that is taken back", I15, "results/01REQ2", "now is failed", func(p *past) {
		p.do(puts{cluster.ResultKey(www, request(2)): cluster.Result{State: cluster.StateFailed}})
	}},
	{"history is deleted", I15, "history/0000000002", "deleted", func(p *past) {
		p.do(puts{cluster.HistoryKey(www, 2): nil})
	}},
	{"history is rewritten", I15, "history/0000000001", "rewritten", func(p *past) {
		p.do(puts{cluster.HistoryKey(www, 1): *p.active()})
	}},
	{"a value that cannot be read", Unreadable, "active", "<html>", func(p *past) {
		p.do(puts{cluster.ActiveKey(www): "<html>"})
	}},
}

// outs puts a node out that has died.
func (p *past) outs(n release.NodeID) {
	p.do(puts{cluster.LiveKey(n): nil})
	p.do(out(n))
}

// out is T9.
func out(n release.NodeID) puts {
	return puts{
		cluster.MemberKey(www, n): "out", cluster.RosterKey(www): cluster.Roster{V: 2},
		claim(0, n): nil, claim(1, n): nil, claim(2, n): nil,
	}
}

// removed is what an operator does with a node that will not come back.
func removed(n release.NodeID) puts {
	return puts{cluster.MemberKey(www, n): nil, cluster.RosterKey(www): cluster.Roster{V: 3}, cluster.JoinKey(n): nil, cluster.LoweredKey(n, www): nil}
}

func claimOf(k int, g release.Group, n release.NodeID) string {
	return cluster.ClaimKey(www, k, g, n)
}

// with is a value with one more field, of programs to come.
func with(a cluster.Active, field string) string {
	return strings.TrimSuffix(text(a), "}") + "," + field + "}"
}

// flipWith is a flip with one more field.
func flipWith(a cluster.Active, field string) puts {
	ops := flip(a)
	ops[cluster.ActiveKey(www)], ops[cluster.HistoryKey(www, a.Epoch)] = with(a, field), with(a, field)
	delete(ops, cluster.ResultKey(www, a.Request))
	return ops
}

// canaries has a release shown to some visitors.
func (p *past) canaries(seq uint64, k int) {
	p.starts(seq, k)
	p.prepares(seq, k, "n1", "n2")
	a := *p.active()
	a.Epoch, a.Flip, a.Kind, a.Request = a.Epoch+1, flipID(seq), "canary", request(seq)
	p.do(flipWith(a, fmt.Sprintf(`"canary":{"share":"5%%","release":%q,"buffer":%d,"manifest":%q}`, id(seq), k, manifest(seq))))
}

func TestChecker_sound(t *testing.T) {
	for name, after := range sound {
		t.Run(name, func(t *testing.T) {
			p := published(t)
			after(p)
			r := p.judged(www)
			if len(r.Violations) > 0 {
				t.Errorf("%v", r.Violations)
			}
			if r.Revisions != len(p.all)-1 || r.From != 1 || r.Base != 0 || r.To != p.rev {
				t.Errorf("%+v of %d revisions", r, p.rev)
			}
		})
	}
}

// TestChecker_planted: each violation is found, named by its invariant, at its
// revision and key; and nothing else is.
func TestChecker_planted(t *testing.T) {
	found := map[Invariant]int{}
	for _, c := range planted {
		t.Run(c.name, func(t *testing.T) {
			p := published(t)
			c.after(p)
			r := p.judged()
			if len(r.Violations) != 1 {
				t.Fatalf("%d violations, want 1: %v", len(r.Violations), r.Violations)
			}
			v, key := r.Violations[0], c.key
			if !strings.HasPrefix(key, "/") {
				key = cluster.SitePrefix(www) + key
			}
			if v.Invariant != c.want || v.Site != www || v.Revision != p.rev || v.Key != key || !strings.Contains(v.Text, c.says) {
				t.Errorf("found %v\nwant  %s at revision %d by %s, saying %q", v, c.want, p.rev, key, c.says)
			}
			found[v.Invariant]++
		})
	}
	for _, i := range Invariants() {
		if found[i] == 0 {
			t.Errorf("no history breaks %s", i)
		}
	}
}

// TestChecker_fromBase: the same is found when what was before is forgotten, but
// what only the past could tell.
func TestChecker_fromBase(t *testing.T) {
	for _, c := range planted {
		t.Run(c.name, func(t *testing.T) {
			p := published(t)
			p.all = []cluster.Revision{p.base()}
			c.after(p)
			r := p.judged()
			if len(r.Violations) != 1 || r.Violations[0].Invariant != c.want {
				t.Errorf("%v, want one of %s", r.Violations, c.want)
			}
			if want := p.rev - int64(len(p.all)) + 1; r.Base != want || r.From != want+1 || r.Revisions != len(p.all)-1 {
				t.Errorf("%+v, want from revision %d", r, want+1)
			}
		})
	}
}

// TestChecker_gap: what etcd forgot meanwhile is said, and what follows is
// checked.
func TestChecker_gap(t *testing.T) {
	p := published(t)
	before := p.rev
	p.do(puts{cluster.ActiveKey(www): nil}) // nobody saw it
	p.do(puts{cluster.RosterKey(www): cluster.Roster{V: 5}})
	p.all = append(p.all[:len(p.all)-2], p.base())
	p.do(puts{manager: nil})
	p.starts(3, 2)
	r := p.judged()
	if want := []Gap{{before + 1, before + 2}}; !slices.Equal(r.Gaps, want) {
		t.Errorf("gaps %v, want %v", r.Gaps, want)
	}
	if len(r.Violations) != 1 || r.Violations[0].Invariant != I4 {
		t.Errorf("%v", r.Violations)
	}
}

// TestChecker_counts: what is put aside and lowered is counted.
func TestChecker_counts(t *testing.T) {
	p := published(t)
	for _, name := range []string{"a node that lowers what its disk has lost, and comes back", "a freeze that an operator overrides"} {
		q := published(t)
		sound[name](q)
		r := q.judged()
		if lowers := strings.Contains(name, "lowers"); r.Flips != 3 || (r.Lowered == 2) != lowers || (r.Forced == 1) == lowers {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := p.judged("shop"); r.Flips != 0 || r.Revisions == 0 {
		t.Errorf("of another site: %+v", r)
	}
	for range mostViolations + 5 {
		p.do(puts{cluster.ActiveKey(www): "<html>"})
	}
	if r := p.judged(); len(r.Violations) != mostViolations || r.More != 5 || r.Broken() != mostViolations+5 {
		t.Errorf("%d listed, %d more", len(r.Violations), r.More)
	}
	if raw, err := json.Marshal(published(t).judged()); err != nil || !strings.Contains(string(raw), `"violations":[]`) {
		t.Errorf("%s %v", raw, err)
	}
}

func TestPolicy_need(t *testing.T) {
	for _, c := range []struct {
		min        string
		registered int
		want       int
	}{{"100%", 4, 4}, {"75%", 4, 3}, {"51%", 100, 51}, {"50%", 3, 2}, {"1%", 3, 1}, {"3", 2, 3}, {"50%", 0, 1}, {"0%", 4, 0}, {"101%", 4, 0}, {"", 4, 0}, {"-1", 4, 0}} {
		got, err := (&policy{Min: c.min}).need(c.registered)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s of %d: %d %v, want %d", c.min, c.registered, got, err, c.want)
		}
	}
}
