"""One file for each format of data: how it is recognised, and how its entries are read."""
