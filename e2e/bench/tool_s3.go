package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// nodeDirs are the trees of a node that is updated in place, and of a fresh
// one.
func nodeDirs(b *bed, s site, tool string, run int) (node, fresh, home string, err error) {
	for name, dir := range map[string]*string{"node": &node, "fresh": &fresh, "home": &home} {
		if *dir, err = b.place(s.name, tool, run, name); err != nil {
			return
		}
	}
	return
}

// mirror is the steps of a tool that makes one tree equal to another: up puts
// one into the store, down gets what is there.
func mirror(s site, node, fresh string, up, down func(dir string) program) map[cell]step {
	return map[cell]step{
		firstPublish: runStep(up(s.v1)), updatePublish: runStep(up(s.v2)), noopPublish: runStep(up(s.v2)), coldPublish: runStep(up(s.v2)),
		firstPrefetch: fetchStep(down(node), node, s.v1), updatePrefetch: fetchStep(down(node), node, s.v2),
		noopPrefetch: fetchStep(down(node), node, s.v2), freshPrefetch: fetchStep(down(fresh), fresh, s.v2),
	}
}

// rcloneTool keeps each file as an object, and compares by checksum: the times
// that it could compare by cost a request for each file.
type rcloneTool struct{}

func (rcloneTool) name() string    { return "rclone" }
func (rcloneTool) needs() []string { return []string{"rclone"} }

func (t rcloneTool) open(_ context.Context, b *bed, s site, run int) (map[cell]step, error) {
	node, fresh, home, err := nodeDirs(b, s, t.name(), run)
	if err != nil {
		return nil, err
	}
	env := []string{
		"HOME=" + home, "RCLONE_CONFIG_B_TYPE=s3", "RCLONE_CONFIG_B_PROVIDER=Other", "RCLONE_CONFIG_B_ENDPOINT=http://" + b.s3,
		"RCLONE_CONFIG_B_REGION=" + region, "RCLONE_CONFIG_B_FORCE_PATH_STYLE=true", "RCLONE_CONFIG_B_NO_CHECK_BUCKET=true",
		"RCLONE_CONFIG_B_ACCESS_KEY_ID=" + accessKey, "RCLONE_CONFIG_B_SECRET_ACCESS_KEY=" + secretKey,
	}
	remote := "b:" + bucket + "/" + prefix(s.name, t.name(), run)
	sync := func(from, to string) program {
		return program{env: env, argv: []string{find("rclone"), "sync", from, to, "--checksum", "--fast-list", "--transfers", "16", "--checkers", "16", "-q"}}
	}
	return mirror(s, node, fresh,
		func(dir string) program { return sync(dir, remote) },
		func(dir string) program { return sync(remote, dir) }), nil
}

// s3cmdTool keeps each file as an object, one after the other.
type s3cmdTool struct{}

func (s3cmdTool) name() string    { return "s3cmd" }
func (s3cmdTool) needs() []string { return []string{"s3cmd"} }

func (t s3cmdTool) open(_ context.Context, b *bed, s site, run int) (map[cell]step, error) {
	node, fresh, home, err := nodeDirs(b, s, t.name(), run)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(home, "s3cfg")
	text := fmt.Sprintf("[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nbucket_location = %s\nuse_https = False\nsignature_v2 = False\n",
		accessKey, secretKey, b.s3, b.s3, region)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	remote := "s3://" + bucket + "/" + prefix(s.name, t.name(), run) + "/"
	sync := func(from, to string) program {
		return program{env: []string{"HOME=" + home}, argv: []string{find("s3cmd"), "-c", config, "sync", "--delete-removed", "--no-mime-magic", "--quiet", from, to}}
	}
	return mirror(s, node, fresh,
		func(dir string) program { return sync(dir+"/", remote) },
		func(dir string) program { return sync(remote, dir+"/") }), nil
}

// resticTool keeps chunks of files in packs.
type resticTool struct{}

func (resticTool) name() string    { return "restic" }
func (resticTool) needs() []string { return []string{"restic"} }

func (t resticTool) open(ctx context.Context, b *bed, s site, run int) (map[cell]step, error) {
	node, fresh, home, err := nodeDirs(b, s, t.name(), run)
	if err != nil {
		return nil, err
	}
	in := func(home, dir string, args ...string) program {
		return program{dir: dir, argv: append([]string{find("restic"), "--quiet"}, args...), env: append(awsEnv,
			"HOME="+home, "RESTIC_CACHE_DIR="+filepath.Join(home, "cache"), "RESTIC_PASSWORD=bench",
			fmt.Sprintf("RESTIC_REPOSITORY=s3:http://%s/%s/%s", b.s3, bucket, prefix(s.name, t.name(), run)))}
	}
	if err := in(home, "", "init").run(ctx); err != nil {
		return nil, err
	}
	// A node has a cache of its own, and a fresh node an empty one.
	restore := func(dir string) program {
		return in(dir+".home", "", "restore", "latest", "--target", dir, "--delete")
	}
	steps := mirror(s, node, fresh, func(dir string) program { return in(home, dir, "backup", ".") }, restore)
	steps[coldPublish] = runStep(in(home, s.v2, "--no-cache", "backup", "."))
	return steps, nil
}
