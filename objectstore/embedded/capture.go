//go:build !noembed

package embedded

import (
	"bufio"
	"log"
	"log/slog"
	"os"
	"regexp"
	"strings"
)

// capture turns what the server prints into log records until restore is
// called. The server prints through the variables of os and the standard
// logger; it cannot be told otherwise. (What the HTTP library itself may have
// to say of a connection goes to the real stderr; Start catches that, too.)
func capture(to *slog.Logger) (restore func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, errw, std := os.Stdout, os.Stderr, log.Writer()
	os.Stdout, os.Stderr = w, w
	log.SetOutput(w)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer r.Close()
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			said(to, lines.Text())
		}
	}()
	return func() {
		os.Stdout, os.Stderr = out, errw
		log.SetOutput(std)
		w.Close()
		<-done
	}, nil
}

// said logs one line of the server, without its colours.
func said(to *slog.Logger, line string) {
	line = strings.TrimSpace(regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(line, ""))
	if line != "" {
		to.Warn("the S3 server says", "line", line)
	}
}
