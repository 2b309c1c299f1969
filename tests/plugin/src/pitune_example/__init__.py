"""One of everything that a package can add to pitune, each in a file of its own."""
