"""Parts of recipes, and parts that need another library, listed by name only.

Nothing below them imports them: a registry imports the modules of its kind at the first look-up of
a name, as it imports plugins, and checkpoints treat all companion files alike.
"""

MODULES: dict[str, tuple[str, ...]] = {
    "encoder": ("vqvideo.timm_encoder", "vqvideo.recipes.speech.spectral"),
    "decoder": ("vqvideo.recipes.speech.spectral",),
    "likelihood": ("vqvideo.recipes.speech.mel",),
    "model": (
        "vqvideo.presets",
        "vqvideo.recipes.speech.presets",
        "vqvideo.recipes.worlds.presets",
    ),
}

COMPANION_FILES = ("phones.json",)
"""Files beside the weights that describe the codes of a model. Runs with the same codes and
downloads from the hub get them; `save` removes them with the weights that they describe."""
