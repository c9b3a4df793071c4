"""Files of the Hugging Face hub: downloaded, checked, and kept as the hub's client keeps them."""
