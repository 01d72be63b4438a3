"""The local web page over the history: runs, one contract's gates over time, two runs side by side, and what goes on.

It reads the database and the run folders that stand in it, holds no state, and nothing in it fetches from elsewhere.
"""
