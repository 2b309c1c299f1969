"""One file for each kind of source: which packages it reads, and how their files become examples."""
