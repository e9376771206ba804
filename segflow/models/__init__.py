"""Networks, the cards that say what they eat and mean, and the loading of weights. Importing it imports no torch."""
