"""What the server checks before a request: connections, frames, addresses, hosts, origins and
keys."""
