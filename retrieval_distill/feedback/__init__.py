"""What people did with search results, and what can be learnt from it: a log, propensities, interleaving.

Knows Runs, texts and SQLite; must not know models, training or HTTP.
"""
