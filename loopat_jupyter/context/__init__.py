"""What a loop knows and may use: the home, ``config.json``, profiles, vaults, repos, folders."""
