"""Power caps: what may stand in one, what it asks for at an instant, and each zone's limit."""
