"""Pictures as files: decoded from uploads, encoded for answers."""
