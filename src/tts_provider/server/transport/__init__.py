"""What stands before a request: connections, frames, addresses, hosts, origins and keys."""
