"""The cheat collection: submissions that mend nothing and want a reward, and a command that tries them on any task."""
