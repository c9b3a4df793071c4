"""One kind of file a module, and what they share."""
