"""How far a candidate's distributions are from a base's on a text, as people who quantize publish it.

The statistics, their standard errors and the windows are those of llama.cpp's `llama-perplexity --kl-divergence`, so that
numbers may stand beside published ones; our interval over windows stands beside them, since positions of one window are not
independent. Both sides are stepped window by window, and nothing is kept but a few numbers a position.
"""
