"""Connections: topologies, the wire, scripts, and the embedded server."""
