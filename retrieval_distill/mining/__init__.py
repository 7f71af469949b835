"""Mining: chooses the documents that the teacher scores for each training query, and filters negatives."""
