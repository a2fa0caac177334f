// Go's net/http/fcgi; see README.md.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/fcgi"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.Fatal(fcgi.Serve(nil, http.HandlerFunc(serve)))
}

func serve(out http.ResponseWriter, in *http.Request) {
	query := read(in.URL.RawQuery)
	token := query["token"]
	out.Header().Set("Content-Type", "text/plain")
	out.Header().Set("X-Token", token)
	out.Header().Set("X-Method", in.Method)
	out.Header().Set("X-Application", "go")
	time.Sleep(milliseconds(query["sleep"]))
	switch {
	case has(query, "size"):
		size(out, number(query["size"]), number(query["seed"]))
	case has(query, "stream"):
		stream(out, number(query["stream"]), milliseconds(query["pause"]))
	case has(query, "upload"):
		length, sum, _ := digest(in.Body)
		fmt.Fprintf(out, "%d %s\n", length, sum)
	case has(query, "early"):
		fmt.Fprintln(out, "early")
	case has(query, "stderr"):
		// net/http/fcgi gives a handler no way to write to STDERR.
		fmt.Fprintln(out, "stderr")
	case query["watch"] == "read":
		note(query, "start")
		_, _, err := digest(in.Body)
		note(query, "read "+ending(err))
		fmt.Fprintln(out, "read")
	case query["watch"] == "write":
		note(query, "start")
		note(query, "write "+ending(write(out, milliseconds(query["ms"]))))
	default:
		echo(out, in, query)
	}
}

func echo(out http.ResponseWriter, in *http.Request, query map[string]string) {
	length, sum, _ := digest(in.Body)
	out.Header().Set("X-Length", strconv.Itoa(length))
	out.Header().Set("X-Sha256", sum)
	if has(query, "n") {
		n := number(query["n"])
		text := strings.Repeat(query["token"]+" ", n/(len(query["token"])+1)+1)
		io.WriteString(out, text[:n])
		return
	}
	env := fcgi.ProcessEnv(in)
	fmt.Fprintf(out, "REQUEST_METHOD=%s\nQUERY_STRING=%s\n", in.Method, in.URL.RawQuery)
	fmt.Fprintf(out, "CONTENT_TYPE=%s\n", in.Header.Get("Content-Type"))
	fmt.Fprintf(out, "HTTP_X_TEST=%s\nX_PARAM=%s\n", in.Header.Get("X-Test"), env["X_PARAM"])
	long := sha256.Sum256([]byte(env["X_LONG"]))
	fmt.Fprintf(out, "X_LONG=%d %x\n", len(env["X_LONG"]), long)
}

func size(out http.ResponseWriter, left, seed int) {
	out.Header().Set("Content-Type", "application/octet-stream")
	for i := seed * 1000000; left > 0; i++ {
		block := strings.Repeat(fmt.Sprintf("%015d\n", i), 4096)
		if left < len(block) {
			block = block[:left]
		}
		if _, err := io.WriteString(out, block); err != nil {
			return
		}
		left -= len(block)
	}
}

func stream(out http.ResponseWriter, count int, pause time.Duration) {
	for i := 0; i < count; i++ {
		if i > 0 {
			time.Sleep(pause)
		}
		fmt.Fprintf(out, "chunk %d\n", i)
		out.(http.Flusher).Flush()
	}
}

func write(out http.ResponseWriter, limit time.Duration) error {
	for start := time.Now(); time.Since(start) < limit; time.Sleep(20 * time.Millisecond) {
		if _, err := fmt.Fprintln(out, "watch"); err != nil {
			return err
		}
		out.(http.Flusher).Flush()
	}
	return nil
}

func digest(body io.Reader) (int, string, error) {
	hash := sha256.New()
	length, err := io.CopyBuffer(hash, body, make([]byte, 65536))
	return int(length), fmt.Sprintf("%x", hash.Sum(nil)), err
}

func note(query map[string]string, what string) {
	file, err := os.OpenFile(query["log"], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0666)
	if err == nil {
		fmt.Fprintf(file, "%s %s\n", query["token"], what)
		file.Close()
	}
}

func ending(err error) string {
	if err == nil {
		return "whole"
	}
	return "failed: " + err.Error()
}

func read(query string) map[string]string {
	values := map[string]string{}
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return values
}

func has(query map[string]string, name string) bool {
	_, found := query[name]
	return found
}

func number(text string) int {
	value, _ := strconv.Atoi(text)
	return value
}

func milliseconds(text string) time.Duration {
	return time.Duration(number(text)) * time.Millisecond
}
