"""Speech: models of audio, speaker conversion, phone classification.

presets.py has the configs of the models, spectral.py and mel.py their networks and their likelihood
on spectra, and model.py loads a trained one. convert_speaker.py converts the voice of a recording.
utterances.py reads labeled speech; phonemes.py learns from it the phone of each code (phone_map.py),
with which transcribe.py transcribes a recording. phonemes_metrics.py, phonemes_plots.py and
phonemes_page.py show how well that works.
"""
