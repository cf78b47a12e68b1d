// Command hello is the workload of the test bed: it says which pod answered.
//
// HTTP on :8080:
//
//	/              the host name (in Kubernetes: the pod's name)
//	/healthz       200, or 503 after /healthz/fail until /healthz/ok
//	/exit?code=N   ends the process with that code
//
// UDP on :8081: answers each datagram with the host name. SIGTERM ends it at once
// with code 0, or after DRAIN_SECONDS, during which it keeps answering.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	host, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	go serveUDP(host)
	go func() { log.Fatal(http.ListenAndServe(":8080", handler(host))) }()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	log.Printf("hello from %s: HTTP on 8080, UDP on 8081", host)
	log.Printf("ending: %v", <-stop)
	if seconds, err := strconv.Atoi(os.Getenv("DRAIN_SECONDS")); err == nil {
		time.Sleep(time.Duration(seconds) * time.Second)
	}
}

func handler(host string) http.Handler {
	var failing atomic.Bool
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, host) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if failing.Load() {
			http.Error(w, "failing, as asked", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/healthz/fail", func(http.ResponseWriter, *http.Request) { failing.Store(true) })
	mux.HandleFunc("/healthz/ok", func(http.ResponseWriter, *http.Request) { failing.Store(false) })
	mux.HandleFunc("/exit", func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.FormValue("code"))
		if err != nil {
			http.Error(w, "code must be a number", http.StatusBadRequest)
			return
		}
		log.Printf("exit %d, as asked", code)
		os.Exit(code)
	})
	return mux
}

func serveUDP(host string) {
	socket, err := net.ListenPacket("udp", ":8081")
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 1500)
	for {
		_, from, err := socket.ReadFrom(buffer)
		if err != nil {
			log.Fatal(err)
		}
		if _, err := socket.WriteTo([]byte(host+"\n"), from); err != nil {
			log.Printf("answer to %v: %v", from, err)
		}
	}
}
