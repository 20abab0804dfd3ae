"""The machines by SSH: connections, files, the agent's channel. What comes back is hostile until bounded."""
