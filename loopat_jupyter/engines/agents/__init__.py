"""What the engines that run an agent's own program share: its streams, processes and failures."""
