"""Generation for many requests at once: memory in blocks and rows, prompts in chunks, sampling that is repeatable.

`engine` is driven by one caller, step by step; `engine_thread` runs it beside an event loop.
"""
