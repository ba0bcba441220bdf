"""The product on a real kubelet, container runtime and control plane."""
