"""`vqvideo benchmark maze`: evaluation of an action-conditional video model."""
