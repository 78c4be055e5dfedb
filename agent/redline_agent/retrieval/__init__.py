"""Finding the files that a task is about: words, symbols and who uses whom. Pure; it runs in a process of its own."""
