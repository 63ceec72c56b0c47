"""The steps. A step that was ever run anywhere is not edited any more: the next one mends it."""
