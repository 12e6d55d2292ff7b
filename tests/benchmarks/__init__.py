"""What ``hilum bench`` runs: a module each, whose processes load no other."""
