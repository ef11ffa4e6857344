package audit

import "relman/cluster"

// tries makes a third release active, in a way of its own.
func (p *past) tries(how func(a *cluster.Active)) {
	p.starts(3, 2)
	p.prepares(3, 2, "n1", "n2")
	a := p.next(3, 2, 2)
	how(&a)
	p.do(flip(a))
}

// revert is what the leader writes that goes back by itself.
func (p *past) revert() puts {
	bad := *p.active()
	a := p.next(2, 1, 2)
	a.Kind, a.Flip, a.Request = cluster.KindRevert, "01REVERT", ""
	return puts{
		cluster.ActiveKey(www): a, cluster.HistoryKey(www, a.Epoch): a,
		cluster.ResultKey(www, bad.Request):  cluster.Result{State: cluster.StateReverted, Release: bad.Release, Epoch: bad.Epoch, Changed: true},
		cluster.VerdictKey(www, bad.Release): "bad probe",
	}
}

// flipRelated is a transaction that makes something else active.
func flipRelated(ops puts, a cluster.Active) puts {
	ops[cluster.ActiveKey(www)], ops[cluster.HistoryKey(www, a.Epoch)] = a, a
	return ops
}
