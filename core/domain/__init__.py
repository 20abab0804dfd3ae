"""What things are: pure values and decisions over them. No clock, no I/O, no randomness."""
