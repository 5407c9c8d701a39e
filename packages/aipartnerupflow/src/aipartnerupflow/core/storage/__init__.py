"""The former path of the stores."""
