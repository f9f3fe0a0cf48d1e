"""How much to regularise the layers, by the encodings that they learn from."""


def choose_dropout(settings, encoder, halves, split):
    return 0.3
