"""``--storage``: a search that lies in a storage too, so that its nodes share no folder and its driver can be lost."""
