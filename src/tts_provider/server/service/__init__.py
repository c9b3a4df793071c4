"""What every endpoint shares: the engine behind admission, its metrics, its watermark."""
