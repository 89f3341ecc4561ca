"""Ray's cluster under a search: joined or started, its nodes as they come and go, what they are given to work with."""
