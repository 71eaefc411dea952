// containerd's library for CNI, unchanged, driven as containerd drives it for a pod's sandbox.
module vpc-cni-rs/strangers/containerd

go 1.24

tool vpc-cni-rs/strangers/containerd/calls

require (
	github.com/containerd/go-cni v1.1.14
	github.com/containernetworking/cni v1.3.0
)

require (
	github.com/go-logr/logr v1.4.3 // indirect
	github.com/go-logr/stdr v1.2.2 // indirect
	github.com/petermattis/goid v0.0.0-20240813172612-4fcff4a6cae7 // indirect
	github.com/sasha-s/go-deadlock v0.3.5 // indirect
	go.opentelemetry.io/otel v1.29.0 // indirect
	go.opentelemetry.io/otel/metric v1.29.0 // indirect
	go.opentelemetry.io/otel/trace v1.29.0 // indirect
)
