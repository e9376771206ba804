"""How models are made. `segflow.training.train.train` is the entry; importing this package does not import torch."""
