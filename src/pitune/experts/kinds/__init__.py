"""One file for each kind of expert: where it attaches, where it starts, how it mixes, and what PEFT makes of it."""
