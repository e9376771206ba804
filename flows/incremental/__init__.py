"""What is new by the ledger, each scene once; what came of it."""
