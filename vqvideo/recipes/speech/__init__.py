"""Speech: networks and a likelihood on spectra, speaker conversion, phone classification."""
