"""Mining: which documents the teacher scores for a training query, and which of them may teach."""
