"""Hypothesis strategies that build values of the model directly, one module an input type.

machines: what discovery would find. objects: what users write. pods: what runs and what the kubelet
says of it. scenarios: all of it together, as the planner takes it. The values are mostly such as a
real cluster has; `awkward` ones, which the planner has to report and survive, are drawn beside
them.
"""
