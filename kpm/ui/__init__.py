"""A page on this machine's own loopback that shows a cluster, with the rights of who started it.

Read only. The operator serves no page.
"""
