"""Questions about regularization as scripts, using the public API only."""
