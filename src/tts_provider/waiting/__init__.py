"""Queues, listeners, and clients that leave."""
