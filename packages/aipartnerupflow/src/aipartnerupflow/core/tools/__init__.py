"""The former path of tools."""
