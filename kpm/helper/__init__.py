"""The helper: a second, small process that writes what the agent asks for.

It loads no library and decides nothing.
"""
