// Follows streams with r3labs/sse and tmaxmax/go-sse, and prints each event as a line of JSON.
//
// Arguments: CLIENT RUN URL, repeated. For a POST the URL begins with `POST `, and the body is in the
// environment variable BODY.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	r3labs "github.com/r3labs/sse/v2"
	gosse "github.com/tmaxmax/go-sse"
	"gopkg.in/cenkalti/backoff.v1"
)

const pause = 20 * time.Millisecond

var output sync.Mutex

func print(line map[string]any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	fmt.Println(string(text))
}

func received(run, id, name, data string) {
	if name == "" {
		name = "message"
	}
	print(map[string]any{"run": run, "id": id, "type": name, "data": data})
}

var errOver = errors.New("the stream is over")

// strategy waits between attempts of r3labs/sse until the stream is over.
type strategy struct{ over *bool }

func (s strategy) NextBackOff() time.Duration {
	if *s.over {
		return backoff.Stop
	}
	return pause
}

func (s strategy) Reset() {}

func followR3labs(run, url string) {
	over := false
	client := r3labs.NewClient(url)
	client.ReconnectStrategy = strategy{&over}
	client.ResponseValidator = func(_ *r3labs.Client, response *http.Response) error {
		if response.StatusCode == http.StatusNoContent {
			over = true
			return errOver
		}
		return nil
	}
	// It returns when a stream ends, and leaves it to its user to begin again.
	for !over {
		_ = client.SubscribeRaw(func(event *r3labs.Event) {
			data := bytes.Clone(event.Data)
			received(run, string(event.ID), string(event.Event), string(data))
		})
		time.Sleep(pause)
	}
}

func requestFor(url string) *http.Request {
	method, body := http.MethodGet, ""
	target, isPost := strings.CutPrefix(url, "POST ")
	if isPost {
		method, body = http.MethodPost, os.Getenv("BODY")
	}
	request, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	if isPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", os.Getenv("KEY"))
	}
	return request
}

func followGoSSE(run, url string) {
	client := gosse.Client{Backoff: gosse.Backoff{InitialInterval: pause, Multiplier: 1}}
	client.ResponseValidator = func(response *http.Response) error {
		if response.StatusCode == http.StatusNoContent {
			return errOver
		}
		return gosse.DefaultValidator(response)
	}
	request := requestFor(url)
	connection := client.NewConnection(request)
	connection.SubscribeToAll(func(event gosse.Event) {
		received(run, event.LastEventID, event.Type, event.Data)
	})
	for !errors.Is(connection.Connect(), errOver) {
		time.Sleep(pause)
	}
}

func main() {
	var all sync.WaitGroup
	for i := 1; i+2 < len(os.Args); i += 3 {
		client, run, url := os.Args[i], os.Args[i+1], os.Args[i+2]
		all.Add(1)
		go func() {
			defer all.Done()
			if client == "r3labs" {
				followR3labs(run, url)
			} else {
				followGoSSE(run, url)
			}
			print(map[string]any{"run": run, "stopped": true})
		}()
	}
	all.Wait()
}
