"""What a live Python object holds and reaches: its parts, its slots, and what changed in them since."""
