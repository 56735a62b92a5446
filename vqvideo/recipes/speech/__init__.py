"""Speech: models of audio, speaker conversion, phone classification.

presets.py has the configs of the models, spectral.py and mel.py their networks and their likelihood
on spectra, and model.py loads a trained one. convert_speaker.py converts the voice of a recording.
utterances.py reads labeled speech; phonemes.py learns the phone of each code from it
(phone_map.py), and transcribe.py transcribes a recording with this map. phonemes_metrics.py,
phonemes_plots.py and phonemes_page.py show how well that works.
"""
