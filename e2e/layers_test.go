package e2e

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A layer says where an import may stand: in files whose path from the top
// starts with one of homes. e2e may import everything.
type layer struct {
	imports string // an import path or the beginning of one
	homes   []string
	why     string
}

func layers() []layer {
	return []layer{
		{"go.etcd.io/etcd/server", []string{"cluster/embedded/"}, "only cluster/embedded runs an etcd server"},
		{"go.etcd.io/etcd", []string{"cluster/"}, "only package cluster talks to etcd"},
		{"go.uber.org/zap", []string{"cluster/"}, "relman logs with slog; zap is only how etcd is told to be quiet"},
		{"github.com/minio", []string{"objectstore/s3"}, "only objectstore/s3*.go import the S3 client"},
		{"github.com/versity", []string{"objectstore/embedded/"}, "only objectstore/embedded runs an S3 server"},
		{"github.com/aws", []string{"objectstore/embedded/"}, "the S3 client is minio-go; versitygw brings this one"},
		{"github.com/spf13", []string{"cmd/"}, "flags and configuration belong to cmd"},
		{"relman/cluster/embedded", []string{"cluster/", "cmd/"}, "only cmd starts an etcd server"},
		{"relman/objectstore/embedded", []string{"objectstore/", "cmd/"}, "only cmd starts an S3 server"},
		{"relman/cluster", []string{"cluster/", "manager/", "nodeagent/", "cmd/"}, "release and objectstore know nothing of the cluster"},
		{"relman/objectstore", []string{"objectstore/", "manager/", "nodeagent/", "cmd/"}, "release and cluster know nothing of the store"},
		{"relman/manager", []string{"manager/", "cmd/"}, "manager and nodeagent meet in etcd only"},
		{"relman/nodeagent", []string{"nodeagent/", "cmd/"}, "manager and nodeagent meet in etcd only"},
		{"relman/cmd", []string{"cmd/"}, "cmd is the top"},
		{"relman/e2e", nil, "nothing needs the tests"},
	}
}

// breach says why file may not import path, "" if it may.
func breach(file, path string) string {
	if strings.HasPrefix(file, "e2e/") {
		return ""
	}
	if strings.HasPrefix(file, "release/") && !vocabularyMay(path) {
		return "release is the vocabulary: it imports the standard library and golang.org/x/text"
	}
	for _, l := range layers() {
		if path == l.imports || strings.HasPrefix(path, l.imports+"/") {
			return l.refuses(file)
		}
	}
	return ""
}

func (l layer) refuses(file string) string {
	for _, home := range l.homes {
		if strings.HasPrefix(file, home) {
			return ""
		}
	}
	return l.why
}

func vocabularyMay(path string) bool {
	top, _, _ := strings.Cut(path, "/")
	return top != "relman" && !strings.Contains(top, ".") || path == "relman/release" || strings.HasPrefix(path, "golang.org/x/text/")
}

// TestLayers reads the imports of every Go file, tests included.
func TestLayers(t *testing.T) {
	top, seen := "..", map[string]bool{}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != top && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range parsed.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			seen[imported] = true
			if why := breach(filepath.ToSlash(file), imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// A walk that misses the tree would find nothing wrong with it.
	for _, want := range []string{"relman/release", "relman/cluster", "go.etcd.io/etcd/client/v3", "github.com/minio/minio-go/v7"} {
		if !seen[want] {
			t.Errorf("no file imports %s: has the test read the tree?", want)
		}
	}
}

// TestLayers_fire: the rules refuse what they are there for, and no more.
func TestLayers_fire(t *testing.T) {
	for _, c := range []struct {
		file, imports string
		refused       bool
	}{
		{"release/id.go", "strings", false},
		{"release/path.go", "golang.org/x/text/cases", false},
		{"release/id.go", "github.com/oklog/ulid/v2", true},
		{"release/id.go", "golang.org/x/sync/errgroup", true},
		{"release/id_test.go", "relman/objectstore", true},
		{"cluster/client.go", "go.etcd.io/etcd/client/v3", false},
		{"cluster/client.go", "go.etcd.io/etcd/server/v3/embed", true},
		{"cluster/embedded/member.go", "go.etcd.io/etcd/server/v3/embed", false},
		{"cluster/client.go", "relman/objectstore", true},
		{"manager/manager.go", "go.etcd.io/etcd/client/v3", true},
		{"manager/manager_test.go", "relman/cluster/clustertest", false},
		{"manager/manager_test.go", "relman/nodeagent", true},
		{"nodeagent/agent.go", "relman/manager", true},
		{"nodeagent/agent.go", "relman/cluster", false},
		{"nodeagent/agent_test.go", "relman/cluster/embedded", true},
		{"nodeagent/agent.go", "github.com/spf13/viper", true},
		{"objectstore/s3.go", "github.com/minio/minio-go/v7", false},
		{"objectstore/s3_test.go", "github.com/minio/minio-go/v7", false},
		{"objectstore/publish.go", "github.com/minio/minio-go/v7", true},
		{"objectstore/embedded/serve.go", "github.com/versity/versitygw/embedgw", false},
		{"objectstore/s3_test.go", "relman/objectstore/embedded", false},
		{"objectstore/publish.go", "relman/cluster", true},
		{"cmd/relman/dev.go", "relman/cluster/embedded", false},
		{"cmd/relman/dev.go", "go.etcd.io/etcd/client/v3", true},
		{"cmd/relman/dev.go", "relman/e2e", true},
		{"e2e/faults_test.go", "go.etcd.io/etcd/client/v3", false},
	} {
		if why := breach(c.file, c.imports); (why != "") != c.refused {
			t.Errorf("%s importing %s: refused is %v (%s)", c.file, c.imports, why != "", why)
		}
	}
}
