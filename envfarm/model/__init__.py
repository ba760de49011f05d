"""MiMo-V2-Flash's architecture at any size: the same maths and the same weight names as the real checkpoint.

What a checkpoint holds (`inspection` and what it imports) and conversations (`chat`, `chat_template`, `chat_reply`)
work without torch; everything else needs `pip install envfarm[model]`.

Letters in the names of tensors: B rows of a batch, T tokens of this forward, S keys that can be seen, V vocabulary,
D hidden size, F feed-forward size, H query heads, G key-value heads, R query heads of one key-value head, C size of a
query or key, U size of a value, N tokens of all rows, E experts, K experts chosen for a token.
"""
