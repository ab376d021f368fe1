"""Offline evaluation: labeled rows through a cheap and a strong model, to a certified threshold."""
