"""The engine against a Clerk that lies, loses, delays and forgets."""
