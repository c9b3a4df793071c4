"""hibari: the embedded natural English voices."""
