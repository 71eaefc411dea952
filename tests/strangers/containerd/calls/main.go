// Command calls makes one call of a container runtime through containerd's own library (go-cni, and libcni below it): the same
// options, arguments, cached results and previous results as containerd's CRI service for a pod's sandbox.
//
//	calls status
//	calls setup|check|remove ID NETNS NAMESPACE POD
//	calls gc [ID ...]          the sandboxes that are still valid
//
// It prints what the library gives as JSON; an error goes to standard error, and the exit code is 1.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	gocni "github.com/containerd/go-cni"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

const (
	bin   = "/opt/cni/bin"
	conf  = "/etc/cni/net.d"
	eth0  = "eth0"
	list  = "/etc/cni/net.d/10-aws.conflist"
	annot = "io.kubernetes.cri.pod-annotations"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("expected status, setup, check, remove or gc")
	}
	ctx := context.Background()
	if args[0] == "gc" {
		return gc(ctx, args[1:])
	}
	// As containerd's CRI service sets it up: loopback too, one network at most. The library's loopback is of CNI 0.3.1, which has no
	// CHECK, and would fail that for all of them.
	loaded, networks := []gocni.Opt{gocni.WithLoNetwork, gocni.WithDefaultConf}, 2
	if args[0] == "check" {
		loaded, networks = loaded[1:], 1
	}
	cni, err := gocni.New(
		gocni.WithMinNetworkCount(networks),
		gocni.WithPluginConfDir(conf),
		gocni.WithPluginMaxConfNum(1),
		gocni.WithPluginDir([]string{bin}),
		gocni.WithInterfacePrefix("eth"),
	)
	if err != nil {
		return err
	}
	if err := cni.Load(loaded...); err != nil {
		return err
	}
	if args[0] == "status" {
		return cni.Status()
	}
	if len(args) != 5 {
		return fmt.Errorf("expected %s ID NETNS NAMESPACE POD", args[0])
	}
	id, netns, namespace, pod := args[1], args[2], args[3], args[4]
	options := []gocni.NamespaceOpts{
		gocni.WithLabels(map[string]string{
			"K8S_POD_NAMESPACE":          namespace,
			"K8S_POD_NAME":               pod,
			"K8S_POD_INFRA_CONTAINER_ID": id,
			"K8S_POD_UID":                "uid-" + pod,
			"IgnoreUnknown":              "1",
		}),
		gocni.WithCapability(annot, map[string]string{"secret": "hunter2"}),
	}
	switch args[0] {
	case "setup":
		result, err := cni.Setup(ctx, id, netns, options...)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result.Interfaces)
	case "check":
		return cni.Check(ctx, id, netns, options...)
	case "remove":
		return cni.Remove(ctx, id, netns, options...)
	}
	return fmt.Errorf("unknown call %q", args[0])
}

// go-cni has no GC yet: the library below it has, and sends DEL for every cached attachment that is not valid before it sends GC.
func gc(ctx context.Context, valid []string) error {
	network, err := libcni.ConfListFromFile(list)
	if err != nil {
		return err
	}
	args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{}}
	for _, id := range valid {
		args.ValidAttachments = append(args.ValidAttachments, types.GCAttachment{ContainerID: id, IfName: eth0})
	}
	return libcni.NewCNIConfig([]string{bin}, nil).GCNetworkList(ctx, network, args)
}
