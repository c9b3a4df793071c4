"""Who waits for whom: lines, listeners, and clients that leave."""
