"""Connections that stay: a socket, its contexts and their timelines."""
