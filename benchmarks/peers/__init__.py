"""What a user would pick instead: one file a peer, each loop as the peer's own documentation writes it."""
