"""When each written word is spoken."""
