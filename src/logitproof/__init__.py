"""logitproof: does your engine compute the same model as the reference?"""
