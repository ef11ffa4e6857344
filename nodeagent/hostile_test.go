package nodeagent

import (
	"errors"
	"testing"

	"relman/cluster"
)

// TestNode_wrongBuffer: a rollout into a buffer that there cannot be is told of,
// and the site is served on.
func TestNode_wrongBuffer(t *testing.T) {
	for _, buffer := range []int{-1, cluster.MaxBuffers} {
		n := newNode(t)
		n.start()
		r1 := n.rollOut(firstBuild())
		n.etcd.change(func(rev int64) {
			n.etcd.view.Rollout = cluster.Entry[cluster.Rollout]{
				Value: cluster.Rollout{Release: r1.Manifest.ID(), Buffer: buffer}, Mod: rev, Create: rev,
			}
		})
		n.until("told", func() error {
			if n.status().Error == nil {
				return errors.New("no error in the status")
			}
			return nil
		})
		n.answers(r1, "")
	}
}
