"""The processes: thin, each wires the library to one outside world; none imports another."""
