"""Files that others wrote → books."""
