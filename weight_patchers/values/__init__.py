"""Values: edits posed as rows of tokens, and v*, what must stand at the subject for each."""
