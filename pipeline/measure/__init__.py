"""From one raw reply to token rows, an answer and its confidence; standard library only."""
