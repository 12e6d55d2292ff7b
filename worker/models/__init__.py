"""The weights that Hilum ships, each with its card, and a site's own."""
