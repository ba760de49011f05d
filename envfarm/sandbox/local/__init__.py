"""The local jail: bubblewrap on this machine's own kernel, as root or as an ordinary user."""
