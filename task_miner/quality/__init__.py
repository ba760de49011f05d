"""What has to hold before a task is published: the gate, the leak audit, the mutation score."""
