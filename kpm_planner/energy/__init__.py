"""Energy: how much passed through a meter, who used it, and what a change saved."""
