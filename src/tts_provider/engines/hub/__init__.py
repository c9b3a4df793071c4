"""Downloads and checks files of the Hugging Face hub, and keeps them as the hub's client does."""
