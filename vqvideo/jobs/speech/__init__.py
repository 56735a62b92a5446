"""The commands about speech: another voice, and phones."""
