"""What is decided for a machine before code is written: vectors, tiles, the order of sums, the sharing among threads."""
