"""What is measured: one file a work, or a few of a kind."""
