"""A leased place to run untrusted commands: the contract, its conformance suite, and the local jail."""
