"""The former path of the extension registry."""
