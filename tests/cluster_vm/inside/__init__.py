"""What runs in a container on that machine; it imports nothing of this project."""
