package cluster

import (
	"testing"

	"relman/release"
)

// TestViewOf reads from pairs what Observe and Follow read from etcd.
func TestViewOf(t *testing.T) {
	self := Self{Node: "n1", Group: "main"}
	id := release.NewID(1, release.Sum([]byte("1")))
	pairs := []Pair{
		{Key: ConfigKey("www"), Value: encode(DefaultPolicy()), Mod: 2, Create: 2},
		{Key: ActiveKey("www"), Value: encode(Active{Release: id, Epoch: 7, Buffer: 1}), Mod: 9, Create: 3},
		{Key: MemberKey("www", self.Node), Value: string(MemberIn), Mod: 5, Create: 4},
		{Key: ClaimKey("www", 1, self.Group, self.Node), Value: string(id), Mod: 6, Create: 6},
		{Key: ClaimKey("www", 0, self.Group, self.Node), Value: NoClaim, Mod: 8, Create: 8},
	}
	v, err := ViewOf("www", 10, pairs)
	if err != nil {
		t.Fatal(err)
	}
	if v.Active.Mod != 9 || v.Active.Value.Epoch != 7 || v.Members["n1"].Mod != 5 || len(v.Claims) != 2 || v.Claims[0].Release != "" || v.Claims[1].Release != id {
		t.Errorf("ViewOf = %+v", v)
	}
	n, err := NodeViewOf("www", self, 10, pairs)
	if err != nil {
		t.Fatal(err)
	}
	if n.Active.Mod != 9 || n.Member.Value != MemberIn || n.claimMod(0) != 8 || n.claimMod(1) != 6 || n.claimMod(2) != 0 {
		t.Errorf("NodeViewOf = %+v", n)
	}
	bad := append(pairs, Pair{Key: RolloutKey("www"), Value: "{", Mod: 9, Create: 9})
	if _, err := ViewOf("www", 10, bad); err == nil {
		t.Error("ViewOf takes a rollout that does not parse")
	}
	if _, err := NodeViewOf("www", self, 10, bad); err == nil {
		t.Error("NodeViewOf takes a rollout that does not parse")
	}
}
