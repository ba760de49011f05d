"""The driver's end of the agent's protocol: one piece of code for every provider.

A provider brings a road (how to reach its agent); everything else is here: `connection.open_agent` claims the agent,
`job.start_job` runs programs in it, `files` moves files, `sandbox.AgentSandbox` is the contract's Sandbox over these.
"""
