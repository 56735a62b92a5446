"""Playable models of an environment: recorded episodes, rollouts, interactive play."""
