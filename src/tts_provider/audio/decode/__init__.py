"""Files of others → samples."""
