"""What the nucleus asks of a cloud, and the ways there."""
