// Clients plays one of the programs that live on a Kubernetes API, and says what it saw.
package main

import (
	_ "k8s.io/api/core/v1"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/dynamic"
)

func main() {}
