"""Results folders of nnU-Net v2: plans to a card, folds to one network."""
