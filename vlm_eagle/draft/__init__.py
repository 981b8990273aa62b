"""The EAGLE-3 head: configuration, layers, vocabulary, files."""
