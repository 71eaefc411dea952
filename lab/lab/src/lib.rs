//! A VPC on one machine: fabric, nodes, kubelet, command line.
