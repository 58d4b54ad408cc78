"""Spoken dialogues for training: the record, speech engines, augmentation, the nano data set."""
