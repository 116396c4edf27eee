"""What every HTTP adapter shares: fates of answers, the governor of a host, tokens, one careful call."""
