"""Hosts: trees of files and firmware mailboxes, read and written here or by a helper."""
