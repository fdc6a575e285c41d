"""One person's laptop: a cloud and its devices, started and stopped together."""
