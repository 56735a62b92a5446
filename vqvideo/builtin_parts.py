"""The modules that register the built-in parts that are not imported with the model core.

A registry imports the modules of its kind at the first look-up of a name, as it imports plugins. So
recipes and parts that need another library are added here by name only, and nothing below them
imports them.
"""

MODULES: dict[str, tuple[str, ...]] = {
    "encoder": ("vqvideo.timm_encoder", "vqvideo.recipes.speech.spectral"),
    "decoder": ("vqvideo.recipes.speech.spectral",),
    "likelihood": ("vqvideo.recipes.speech.mel",),
    "model": ("vqvideo.presets", "vqvideo.recipes.worlds.presets"),
}
