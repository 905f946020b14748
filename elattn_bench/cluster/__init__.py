"""A sweep over a cluster: every device of every node measures one case at a time. Ray is imported in ``door`` alone."""
