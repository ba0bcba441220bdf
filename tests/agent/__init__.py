"""The agent and the operator, with an API server and a kubelet that are played."""
