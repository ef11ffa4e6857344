package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// configured gives a test an environment of its own and a relman.yaml.
func configured(t *testing.T, file string, env ...string) {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"RELMAN_SITE", "RELMAN_ENDPOINTS", "ETCDCTL_ENDPOINTS", "RELMAN_TIMEOUT", "RELMAN_OUTPUT", "ETCDCTL_USER", "NO_COLOR"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	t.Setenv("XDG_STATE_HOME", filepath.Join(home, "state"))
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	if file == "" {
		return
	}
	dir := filepath.Join(home, "config", "relman")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "relman.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
}

// relman runs a command line in this process.
func relman(t *testing.T, args ...string) (code exitCode, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = newApp(&out, &errs).execute(t.Context(), args)
	return code, out.String(), errs.String()
}

// shownConfig is `relman config show` by key.
func shownConfig(t *testing.T, args ...string) map[string]configReport {
	t.Helper()
	code, out, errs := relman(t, append([]string{"config", "show", "-o", "json"}, args...)...)
	var all []configReport
	if err := json.Unmarshal([]byte(out), &all); code != exitOK || err != nil {
		t.Fatalf("exit %d: %v\n%s%s", code, err, out, errs)
	}
	keys := map[string]configReport{}
	for _, r := range all {
		keys[r.Key] = r
	}
	return keys
}

// TestConfig_precedence: flag, environment, file, default.
func TestConfig_precedence(t *testing.T) {
	expect := func(from string, args ...string) {
		t.Helper()
		r := shownConfig(t, args...)["site"]
		if r.Origin != from || r.Value != map[string]string{originFlag: "by-flag", originEnv: "by-env", originFile: "by-file", originDefault: ""}[from] {
			t.Errorf("%+v, want it from %s", r, from)
		}
	}
	configured(t, "")
	expect(originDefault)
	configured(t, "site: by-file\n")
	expect(originFile)
	configured(t, "site: by-file\n", "RELMAN_SITE=by-env")
	expect(originEnv)
	expect(originFlag, "-s", "by-flag")
}

func TestConfig_endpoints(t *testing.T) {
	expect := func(origin string, want ...string) {
		t.Helper()
		var got []string
		r := shownConfig(t)["endpoints"]
		for _, v := range r.Value.([]any) {
			got = append(got, v.(string))
		}
		if !slices.Equal(got, want) || r.Origin != origin {
			t.Errorf("%v from %s, want %v from %s", got, r.Origin, want, origin)
		}
	}
	configured(t, "")
	expect(originDefault, "http://127.0.0.1:2379")
	configured(t, "", "ETCDCTL_ENDPOINTS=a:1,b:2")
	expect(originEnv, "a:1", "b:2")
	configured(t, "", "ETCDCTL_ENDPOINTS=a:1,b:2", "RELMAN_ENDPOINTS=c:3")
	expect(originEnv, "c:3")
	configured(t, "endpoints: [d:4, e:5]\n")
	expect(originFile, "d:4", "e:5")

	configured(t, "")
	remove, err := leaveDevPointer(devPointer{Etcd: "http://127.0.0.1:5555"})
	if err != nil {
		t.Fatal(err)
	}
	expect(originDefault, "http://127.0.0.1:5555")
	if err := remove(); err != nil {
		t.Fatal(err)
	}
	expect(originDefault, "http://127.0.0.1:2379")
}

// TestConfig_daemons: what is configured for a command that runs for long
// reaches its flags, and no other command's.
func TestConfig_daemons(t *testing.T) {
	configured(t, "agent:\n  addr: :81\n  sites: [www, mkt]\n  group: file\n", "RELMAN_AGENT_GROUP=env", "RELMAN_MANAGER_ADDR=:82")
	s := newSettings()
	a := &app{settings: s}
	agent := newAgentCommand(a)
	s.adopt("agent", agent.Flags())
	s.adopt("manager", newManagerCommand(a).Flags())
	if err := agent.ParseFlags([]string{"--dir", "/flag"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.load(); err != nil {
		t.Fatal(err)
	}
	if err := s.apply("agent"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"addr": ":81", "sites": "[www,mkt]", "group": "env", "dir": "/flag", "admin-addr": agent.Flag("admin-addr").DefValue} {
		if got := agent.Flag(name).Value.String(); got != want {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
}

// TestConfig_reachesDaemons: the same, through the command line.
func TestConfig_reachesDaemons(t *testing.T) {
	configured(t, "agent:\n  node-id: Web!\n")
	if code, _, errs := relman(t, "agent"); code != exitUsage || !strings.Contains(errs, "Web!") {
		t.Errorf("exit %d %s", code, errs)
	}
	configured(t, "", "RELMAN_DEV_NODES=many")
	if code, _, errs := relman(t, "dev"); code != exitUsage || !strings.Contains(errs, "dev.nodes") {
		t.Errorf("exit %d %s", code, errs)
	}
}

// TestConfig_hooks: a hook that cannot be meant is a usage error, wherever it
// is configured.
func TestConfig_hooks(t *testing.T) {
	for _, c := range []struct {
		file, env, command, says string
	}{
		{"agent:\n  hook-verify: check\n", "", "agent", `verify hook "check": give an absolute path`},
		{"", "RELMAN_AGENT_HOOK_POST_FLIP=tell", "agent", `post-flip hook "tell": give an absolute path`},
		{"agent:\n  hook-verify: /check\n  hook-timeout: 0s\n", "", "agent", "a time limit of 0s"},
		{"", "RELMAN_MANAGER_HOOK_POST_CONVERGE=purge", "manager", `post-converge hook "purge": give an absolute path`},
		{"manager:\n  hook-post-converge: /purge\n  hook-retries: -1\n", "", "manager", "-1 retries"},
		{"manager:\n  hook-converge-within: 0s\n", "", "manager", "--hook-converge-within 0s"},
	} {
		t.Run(c.says, func(t *testing.T) {
			configured(t, c.file, strings.Fields(c.env)...)
			if code, _, errs := relman(t, c.command); code != exitUsage || !strings.Contains(errs, c.says) {
				t.Errorf("exit %d %s", code, errs)
			}
		})
	}
}

// TestConfig_wrong: what is wrong is said, and nothing is done.
func TestConfig_wrong(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		env  string
		args []string
		says string
	}{
		"unknown key":        {"sites: www\nendpoint: x\n", "", nil, "unknown key endpoint, sites"},
		"unknown nested key": {"agent:\n  port: 1\n", "", nil, "unknown key agent.port"},
		"no YAML":            {"site: [www\n", "", nil, "relman.yaml"},
		"a number for a map": {"agent: 5\n", "", nil, "agent"},
		"no duration":        {"timeout: soon\n", "", nil, "timeout"},
		"no duration in env": {"", "RELMAN_TIMEOUT=soon", nil, "timeout"},
		"negative timeout":   {"", "", []string{"--timeout", "-1s"}, "negative"},
		"no format":          {"", "RELMAN_OUTPUT=xml", nil, `output is "xml"`},
		"both waits":         {"", "", []string{"--wait", "--no-wait"}, "wait"},
		"unknown flag":       {"", "", []string{"--fast"}, "--fast"},
	} {
		t.Run(name, func(t *testing.T) {
			env := []string{}
			if c.env != "" {
				env = append(env, c.env)
			}
			configured(t, c.file, env...)
			code, out, errs := relman(t, append([]string{"config", "show"}, c.args...)...)
			if code != exitUsage || !strings.Contains(errs, c.says) || out != "" {
				t.Errorf("exit %d, %q, want 2 and %q\n%s", code, errs, c.says, out)
			}
		})
	}
}

func TestConfig_timeout(t *testing.T) {
	configured(t, "timeout: 90s\n")
	s := newSettings()
	if c, err := s.load(); err != nil || c.Timeout != 90*time.Second || !c.Wait || c.Output != "table" {
		t.Errorf("%+v %v", c, err)
	}
}

// TestPassword: it comes from a file that nobody else can read or from the
// environment, never from a flag, and is not shown.
func TestPassword(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env            []string
		user, password string
		says           string
	}{
		"none":            {nil, "", "", ""},
		"environment":     {[]string{"RELMAN_USER=ann", "RELMAN_PASSWORD=pw"}, "ann", "pw", ""},
		"file":            {[]string{"RELMAN_USER=ann", "RELMAN_PASSWORD_FILE=" + file}, "ann", "hush", ""},
		"etcdctl":         {[]string{"ETCDCTL_USER=ann:pw2"}, "ann", "pw2", ""},
		"etcdctl, apart":  {[]string{"ETCDCTL_USER=ann", "ETCDCTL_PASSWORD=pw3"}, "ann", "pw3", ""},
		"file of nowhere": {[]string{"RELMAN_USER=ann", "RELMAN_PASSWORD_FILE=/nowhere"}, "", "", "/nowhere"},
	} {
		configured(t, "", append([]string{"RELMAN_USER=", "RELMAN_PASSWORD=", "RELMAN_PASSWORD_FILE=", "ETCDCTL_PASSWORD="}, c.env...)...)
		s := newSettings()
		cfg, err := s.load()
		if err != nil {
			t.Fatal(err)
		}
		a := &app{settings: s, cfg: cfg}
		user, password, err := a.password()
		if c.says != "" {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if user != c.user || password != c.password || err != nil {
			t.Errorf("%s: %q %q %v", name, user, password, err)
		}
		if _, out, _ := relman(t, "config", "show", "-o", "json"); c.password != "" && strings.Contains(out, c.password) {
			t.Errorf("%s: the password is shown:\n%s", name, out)
		}
	}
	configured(t, "", "RELMAN_PASSWORD=", "RELMAN_PASSWORD_FILE=", "RELMAN_USER=ann")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readSecret(file); err == nil || !strings.Contains(err.Error(), "0644") {
		t.Errorf("a file that others can read: %v", err)
	}
	if code, _, errs := relman(t, "status", "--user", "ann:pw"); code != exitUsage || !strings.Contains(errs, "only the name") {
		t.Errorf("exit %d %s", code, errs)
	}
}
