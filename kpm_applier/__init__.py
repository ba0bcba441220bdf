"""Node input and output: discover, observe, diff, apply, verify, restore.

Knows sysfs and no Kubernetes.
"""
