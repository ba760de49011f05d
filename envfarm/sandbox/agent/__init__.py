"""The agent that runs inside every sandbox: its protocol, its source, its programs for each kind of machine, its twin.

`PROTOCOL.md` is what drivers and agents say to each other; `source/` is the agent in C, `programs/` what
``scripts/build_agent.py`` makes of it, `twin/` the same in Python for hosts that the programs do not fit.
"""
