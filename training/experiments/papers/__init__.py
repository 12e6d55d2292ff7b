"""What the four papers trained, one file per paper, and what they measured or compared."""
