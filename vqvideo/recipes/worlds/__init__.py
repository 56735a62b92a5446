"""Worlds: models of an environment that follow actions.

record_maze.py records episodes of the agent in maze_agent.py, and episodes.py reads them.
presets.py has the config of the model of a maze; maze_model.py loads one that was trained on
episodes. rollout.py renders a rollout next to an episode; play/ is a web page for interactive
rollouts of any model with discrete actions.
"""
