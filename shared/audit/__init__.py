"""The health audit: collectors of facts, the pipeline from facts to stored verdicts, the turns it records."""
