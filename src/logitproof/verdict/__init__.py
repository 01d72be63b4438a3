"""Is it the same model?"""
