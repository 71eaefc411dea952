// Clients plays programs that live on a Kubernetes API, as they are commonly written with client-go, and fails at the first thing
// that is not as they need it.
package main

import (
	"fmt"
	"os"
)

func main() {
	plays := map[string]func(){
		"fields": protobufFields, "informers": informersPlay, "watchlist": watchListPlay, "expiry": expiryPlay, "writes": writesPlay,
		"leader": leaderPlay, "incluster": inClusterPlay, "protobuf": protobufPlay,
	}
	play := plays[append(os.Args, "")[1]]
	if play == nil {
		fmt.Fprintln(os.Stderr, "usage: clients PLAY, where PLAY is one of:")
		for name := range plays {
			fmt.Fprintln(os.Stderr, " ", name)
		}
		os.Exit(2)
	}
	play()
}
