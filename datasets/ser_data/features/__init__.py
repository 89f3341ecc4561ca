"""Features of clips: settings that can be hashed, their computation, and the node's cache of the results."""
