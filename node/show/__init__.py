"""Step 7: people and machines look. So far a picture of each result and the words of the CLI."""
