// Command pause waits until it is told to end.
//
// It is the first process of every pod's sandbox and of every namespace of the local cluster: processes whose parent
// ended become its children, so it also collects their exit statuses. When it ends, the kernel ends everything else in
// its process namespace.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		collectExitStatuses()
	}
}

// collectExitStatuses empties the list of ended children; one signal may stand for several of them.
func collectExitStatuses() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}
