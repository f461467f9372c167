"""The router with real databases and servers, without a network around it."""
