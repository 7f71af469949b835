"""Search: a query in, the best documents out - dense, hybrid, reranked, filtered - by one object kept in memory."""
