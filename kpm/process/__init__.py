"""What every process of ours has: logs, threads, ports, its memory on disk, its end."""
