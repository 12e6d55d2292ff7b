"""What the four papers trained and measured, a file a paper, and what they compare."""
