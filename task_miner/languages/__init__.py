"""What the miner knows of each programming language, behind one Protocol."""
