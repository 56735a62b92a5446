"""`vqvideo benchmark speech`: evaluation of reconstruction and speaker conversion."""
