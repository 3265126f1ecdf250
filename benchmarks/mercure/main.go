// A Mercure hub in one process, with its in-memory transport. A POST to /publish publishes its body.
//
// Argument: the port.
package main

import (
	"context"
	"io"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/dunglas/mercure"
)

const topic = "bench"

func main() {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	hub, err := mercure.NewHub(
		context.Background(),
		mercure.WithAnonymous(),
		mercure.WithLogger(quiet),
		mercure.WithTransport(mercure.NewLocalTransport(
			mercure.NewSubscriberList(mercure.DefaultSubscriberListCacheSize),
		)),
		// Streams last as long as their clients.
		mercure.WithWriteTimeout(0),
		mercure.WithDispatchTimeout(0),
	)
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		update := &mercure.Update{
			Topics: []string{topic},
			Event:  mercure.Event{Type: "step:log", Data: string(body)},
		}
		if err := hub.Publish(r.Context(), update); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	http.HandleFunc("GET /.well-known/mercure", hub.SubscribeHandler)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
