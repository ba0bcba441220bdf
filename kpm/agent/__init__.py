"""The node agent: watches, asks the kubelet, plans, applies, reports.

It decides nothing about power itself.
"""
