"""What the tests drive: a real server, a scripted model, a strict reader of event streams."""
