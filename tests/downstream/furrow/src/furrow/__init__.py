"""Parts for vqvideo. Nothing is imported here, so that asking for one part loads that part only."""
