"""Model runtimes and their weights, shared by miners and validators."""
