"""Short-lived facts in Redis: progress and cancel hints. Never the truth; losing them loses nothing."""
