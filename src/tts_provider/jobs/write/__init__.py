"""A timeline → the files that people have of a book."""
