"""The bits of whole trainings: the same on every machine, with any number of threads and any width of vectors."""
