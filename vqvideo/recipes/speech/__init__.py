"""Commands for speech: speaker conversion and phone classification."""
