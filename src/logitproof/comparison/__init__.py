"""Two traces of one prompt in, numbers a position out."""
