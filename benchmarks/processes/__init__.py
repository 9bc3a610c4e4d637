"""Several real processes on loopback: what goes wrong, who says so, and after how many seconds."""
