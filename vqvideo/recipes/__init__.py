"""Applications of the library: worlds that follow actions, and speech.

A recipe uses the public interface only, as a plugin does: it registers its models and parts, and
nothing outside `recipes` and the command line imports it. Recipes do not import each other.
"""
