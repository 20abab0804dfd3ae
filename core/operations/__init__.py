"""What takes several steps: durable workflows, one file each. They do, and say what they did as facts."""
