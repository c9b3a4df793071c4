"""Long-lived connections: a socket, its contexts and their timelines."""
