"""Trains the bundled model: builds a corpus, packs it, and runs a pretraining that can be killed and resumed exactly.

What builds a corpus (`corpus_*`) and what is only arithmetic (`schedule`, `presets`, `curve_plot`) works without torch;
everything else needs `pip install envfarm[model]`. Letters in the names of tensors are those of `envfarm.model`.
"""
