"""Long texts: books and jobs, their parts, and the files that are made of them."""
